"""Writing the results of a case: masks on the grid they came from, and meshes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from monai.data import MetaTensor

from ..organ.exchange import exchanged
from ..organ.palette import structure_colours
from .arrays import as_labels, known_labels
from .find import CASE, GRID, REASON, SUFFIXES, inner_volumes, is_meta_image, is_nifti
from .given import GIVEN, GivenLabels
from .label_names import names_lost
from .layers import with_changes
from .mesh import FORMATS, RAS, SCENE, UNCERTAINTY, check_format, check_space, write_mesh
from .meta_image import data_file
from .read import open_volume, read_labels, read_values
from .scene import write_scene
from .write import copy_as_given, copy_volume, write_label_map, write_layers, write_new_label_map

AS_GIVEN = "as_given"
HOLD_DATA = ("ply", "vtp")  # mesh formats with numbers and colours of vertices
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # characters that cannot be seen
STAGES = ("initial", "refined")
FINE = "fine"
RUN_FILES = ("report.json", "report.jsonl", "report.html", AS_GIVEN)  # of the run, so that no case may be called so
WRITTEN = (*SUFFIXES, *(f".{ending}" for ending in FORMATS))


class CaseWriter:
    """Writes `<output_dir>/<case>/<case>_initial.nii.gz`, `_refined.nii.gz`, `_<structure>.stl` and `.ply`.

    The PLY is the same mesh, with a colour and the template's point a vertex (see `Correspondence`), and its
    uncertainty where that is known. Another `mesh_format` than STL takes the STL's place; of "glb" there is one file a
    case, `<case>_meshes.glb`.

    It is not one of the postprocessing transforms, because MONAI Label and Deploy run those and write by themselves.

    Where masks came as other than NIfTI files, or with labels that are not just the pack's own,
    `<output_dir>/as_given/` receives the refined ones as they came: under the same names, with the same values, the
    labels of other organs as they were.

    Args:
        output_dir: folder of the results, made if need be.
        source: key of the file whose header the masks take: "pred" where masks are refined (they keep its data type,
            and an initial mask is a copy of it), "image" where images are segmented (masks are uint8).
        mesh_space: frame of the mesh files, "RAS" (as NIfTI) or "LPS" (as DICOM); that of a glb is glTF's own.
        mesh_format: "stl", "ply", "obj", "vtp" or "glb".

    Raises:
        ValueError: `mesh_space` or `mesh_format` is none of these.
    """

    def __init__(
        self, output_dir: str | Path, source: str = "pred", mesh_space: str = RAS, mesh_format: str = FORMATS[0]
    ) -> None:
        self.output_dir = Path(str(output_dir))
        self.source = source
        self.mesh_space = check_space(mesh_space)
        self.mesh_format = check_format(mesh_format)

    def check(self, cases: Iterable[Mapping[str, Any]] = ()) -> None:
        """Make the output folder and try it.

        Args:
            cases: dictionaries of paths, of which none may be one that the run writes.

        Raises:
            OSError: nothing can be written there.
            ValueError: the run would overwrite its own input.
        """
        for paths in cases:
            targets = {target.resolve() for target in self._targets(paths)}
            for path in (Path(path) for key, path in paths.items() if key not in (CASE, REASON)):
                if any(file.resolve() in targets for file in (path, *inner_volumes(path))):
                    raise ValueError(f"the run would overwrite {path}, which it reads: give another output_dir")
        if (self.output_dir / "report.json").is_dir():
            raise IsADirectoryError("report.json is a folder there: move it away")
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=self.output_dir):
            pass

    def refusal(self, case: str) -> str:
        """Return why there can be no results of a case's name, "" if there can."""
        if case.lower() in RUN_FILES:
            return f"the case's name is '{case}', which is a name of the run's own: rename it"
        if _is_no_utf8(case):
            return f"the case's name {ascii(case)} is no UTF-8: rename it"
        if CONTROL.search(case):
            return f"the case's name {ascii(case)} holds a line break or the like: rename it"
        return ""

    def clear(self, paths: Mapping[str, Any], listed: Iterable[str] = ()) -> None:
        """Remove a case's results of an earlier run, and nothing else.

        Args:
            paths: the case's dictionary of paths.
            listed: names of the files that the earlier run's report lists.

        Raises:
            OSError: one cannot be removed.
        """
        folder, start = self.output_dir / paths[CASE], f"{paths[CASE]}_"
        own = [folder / name for name in listed if name.startswith(start) and name.lower().endswith(WRITTEN)]
        for file in (*own, *self._targets(paths)):
            if file.is_file() or file.is_symlink():
                file.unlink()

    def still_there(self, case: str, outputs: Mapping[str, str]) -> dict[str, str]:
        """Return where the files that an earlier run wrote for a case lie in the folder now; {} if one is missing.

        Args:
            case: its name.
            outputs: what → path, as `write` and `keep` return them; the folder may have been moved since.
        """
        found = {what: self.output_dir / case / Path(file).name for what, file in outputs.items()}
        if AS_GIVEN in outputs:
            found[AS_GIVEN] = self.output_dir / AS_GIVEN / outputs[AS_GIVEN].rpartition(f"{AS_GIVEN}/")[2]
        return {what: str(file) for what, file in found.items()} if all(f.exists() for f in found.values()) else {}

    def _targets(self, paths: Mapping[str, Any]) -> list[Path]:
        """Return the masks that a case's results may be, whether they are there or not."""
        source, folder = Path(paths[self.source]), self.output_dir / AS_GIVEN
        masks = [self.output_dir / paths[CASE] / f"{paths[CASE]}_{stage}.nii.gz" for stage in (*STAGES, FINE)]
        if not source.is_dir():
            beside = data_file(source) if is_meta_image(source) else None
            return [*masks, folder / source.name, *([folder / beside.name] if beside is not None else [])]
        return [*masks, *(folder / paths[CASE] / file.name for file in inner_volumes(source))]

    def write(self, paths: dict[str, Any], data: dict[Any, Any]) -> dict[str, str]:
        """Write the results of a case.

        Args:
            paths: the case's dictionary of paths.
            data: the case after the chain: `initial` and `pred` (1, X, Y, Z), `pred_shapes`; without `pred_shapes`
                no refinement was asked for and `pred` is the initial mask. `pred_fine` (1, X', Y', Z'), where it is
                there, is the refined one on one more grid, that of the file `grid` where the paths have one.
                `pred_given` is what the mask was read from.

        Returns:
            What → path of the files written.

        Raises:
            OSError: a file cannot be written.
        """
        refine = "pred_shapes" in data
        given = self._foreign(paths, data)
        outputs = {"initial": self._write_mask(paths, "initial", data["initial"] if refine else data["pred"], given)}
        if refine:
            outputs["refined"] = self._write_mask(paths, "refined", data["pred"], given)
            if f"pred_{FINE}" in data:
                outputs[FINE] = str(self._path(paths, f"{FINE}.nii.gz"))
                self._write_fine(outputs[FINE], data[f"pred_{FINE}"], paths.get(GRID), given)
            outputs |= self._write_meshes(paths, data["pred_shapes"])
            outputs |= self._write_as_given(paths, data["initial"], data["pred"], given)
        return outputs

    @staticmethod
    def _write_fine(target: str, fine: MetaTensor, grid: str | None, given: GivenLabels | None) -> None:
        """Write the refined mask on one more grid: with the header of a file where it is that file's."""
        names = given.common if given is not None else None
        if grid is None:
            write_new_label_map(target, as_labels(fine), fine.affine, names)
        else:
            write_label_map(target, as_labels(fine), grid, "uint8", False, names=names)

    def _write_meshes(self, paths: dict[str, Any], shapes: Sequence[Any]) -> dict[str, str]:
        """Write the surfaces of a case; return what → path of the files."""
        outputs: dict[str, str] = {}
        for shape in (shape for shape in shapes if shape.mesh is not None):
            known = {} if shape.correspondence is None else shape.correspondence.vertex_data()
            known |= {} if shape.uncertainty_mm is None else {UNCERTAINTY: shape.uncertainty_mm}
            target = self._path(paths, f"{shape.name}.{self.mesh_format}")
            if self.mesh_format != SCENE:
                write_mesh(target, shape.mesh, known if self.mesh_format in HOLD_DATA else None, self.mesh_space)
                outputs[shape.name] = str(target)
            if known:
                coloured = self._path(paths, f"{shape.name}.ply")
                if coloured != target:
                    write_mesh(coloured, shape.mesh, known, self.mesh_space)
                outputs[f"{shape.name}_correspondence"] = str(coloured)
        if self.mesh_format == SCENE:
            colours = dict(zip((shape.name for shape in shapes), structure_colours(len(shapes)), strict=True))
            meshes = {shape.name: shape.mesh for shape in shapes if shape.mesh is not None}
            if meshes:
                target = write_scene(self._path(paths, f"meshes.{SCENE}"), meshes, [colours[name] for name in meshes])
                outputs["meshes"] = str(target)
        return outputs

    def keep(self, paths: dict[str, Any], data: dict[Any, Any]) -> dict[str, str]:
        """Write the initial mask as the refined one too; {} where there is none (see `write`)."""
        if "initial" not in data and (self.source != "pred" or Path(paths["pred"]).is_dir()):
            return {}
        mask, given = data.get("initial"), self._foreign(paths, data)
        copied = None if self.source == "pred" and given is None else mask  # bytes, where there is a file to copy
        unread = self.source == "pred" and "initial" not in data
        names = names_lost(Path(paths["pred"])) if unread else None
        outputs = {stage: self._write_mask(paths, stage, copied, given, names) for stage in STAGES}
        if given is not None and given.mend_sides:
            return outputs | self._write_as_given(paths, mask, mask, given)
        return outputs | self._copy_as_given(paths, given)

    def _foreign(self, paths: Mapping[str, Any], data: Mapping[Any, Any]) -> GivenLabels | None:
        """Return the initial mask as it came; None where it is a NIfTI file with just the one pack's own values."""
        given = data.get(f"pred{GIVEN}") if "initial" in data else None
        own = given is None or (given.is_own and not given.common and is_nifti(paths[self.source]))
        return None if own else given

    def _path(self, paths: dict[str, Any], ending: str) -> Path:
        folder = self.output_dir / paths[CASE]
        folder.mkdir(exist_ok=True)
        return folder / f"{paths[CASE]}_{ending}"

    def _write_mask(
        self,
        paths: dict[str, Any],
        stage: str,
        mask: torch.Tensor | None,
        given: GivenLabels | None,
        names: Mapping[int, str] | None = None,
    ) -> str:
        target, source = self._path(paths, f"{stage}.nii.gz"), Path(paths[self.source])
        if given is not None:
            reference = next(iter(given.files.values()), given.label_map or source)
            write_label_map(target, known_labels(mask), reference, "uint8", False, names=given.common)
        elif self.source == "pred" and (stage == "initial" or mask is None):
            copy_volume(source, target, names)
        else:
            labels, dtype = (as_labels(mask), None) if self.source == "pred" else (known_labels(mask), "uint8")
            write_label_map(target, labels, source, dtype)
        return str(target)

    def _copy_as_given(self, paths: dict[str, Any], given: GivenLabels | None) -> dict[str, str]:
        """Copy the files of a mask, where it is no NIfTI file with just the pack's own labels."""
        source, folder = Path(paths[self.source]), self.output_dir / AS_GIVEN
        if self.source != "pred" or (given is None and is_nifti(source)):
            return {}
        files = [*given.given_files(), *given.beside] if given is not None else []
        folder = folder / paths[CASE] if files else folder
        for file in files or [source]:
            copy_as_given(file, folder / file.name)
        return {AS_GIVEN: str(folder if files else folder / source.name)}

    def _write_as_given(self, paths: dict[str, Any], before: Any, after: Any, given: GivenLabels | None) -> dict:
        """Write a refined mask with the labels it came with, where these are not the pack's own."""
        if given is None:
            return {}
        source = given.label_map or Path(paths[self.source])
        folder = self.output_dir / AS_GIVEN / (paths[CASE] if given.given_files() else "")
        folder.mkdir(parents=True, exist_ok=True)
        old, new = (torch.as_tensor(mask)[0].cpu().numpy() for mask in (before, after))
        refined = given.in_given_values(old, new)
        if given.places:
            layers = read_values(open_volume(source), source)
            write_layers(folder / source.name, with_changes(layers, given.places, old != new, refined), source)
            return {AS_GIVEN: str(folder / source.name)}
        partner = given.exchanged | {right: left for left, right in given.exchanged.items()} if given.mend_sides else {}
        if not given.files:
            refined = exchanged(refined, given.exchanged) if partner else refined
            write_label_map(folder / source.name, refined, source)
            return {AS_GIVEN: str(folder / source.name)}
        changed = old != new
        for number, file in given.files.items():
            mask = read_labels(file)[0].copy()
            inside = next(iter(mask[mask != 0][:1]), 1)  # one value: it is a binary mask
            mask[changed & (given.values == number)] = 0  # where masks overlap, the other files keep theirs
            mask[changed & (refined == number)] = inside
            target = given.files[partner.get(number, number)]
            write_label_map(folder / target.name, mask, target)
        for file in given.beside:
            copy_as_given(file, folder / file.name)
        return {AS_GIVEN: str(folder)}


def _is_no_utf8(name: str) -> bool:
    """Whether a file's name cannot be written as UTF-8."""
    try:
        name.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
