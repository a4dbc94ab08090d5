"""A MONAI Label server with the bundle in its app `monaibundle`, for tests."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import requests
from requests import Response

NAME = "implicit_shape_refinement"
SHIM = Path(__file__).with_name("torchvision_shim")
START_SECONDS = 240


class LabelServer:
    """A server on a free port, with a copy of the bundle: training replaces its weights.

    Args:
        python: interpreter of MONAI Label's environment.
        bundle_root: the bundle that is copied into the app.
        folder: where app, studies and log go.
    """

    def __init__(self, python: Path, bundle_root: Path, folder: Path) -> None:
        self.python = python
        self.log = folder / "server.log"
        self.studies = folder / "studies"
        self.app = folder / "monaibundle"
        self.bundle = self.app / "model" / NAME
        self.studies.mkdir()
        self._run("apps", "--name", "monaibundle", "--download", "--output", str(folder)).wait(START_SECONDS)
        for part in ("configs", "models", "scripts"):
            shutil.copytree(bundle_root / part, self.bundle / part, ignore=shutil.ignore_patterns("__pycache__"))

    def __enter__(self) -> "LabelServer":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        options = ["--app", str(self.app), "--studies", str(self.studies), "--host", "127.0.0.1", "--port", str(port)]
        models = ",".join(sorted(folder.name for folder in self.bundle.parent.iterdir()))
        for key, value in (("models", models), ("zoo_source", "local"), ("sam2", "false")):
            options += ["--conf", key, value]
        self.process = self._run("start_server", *options)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def infer(
        self, image: str, output: str = "image", label: Path | str | None = None, model: str = NAME, **params: object
    ) -> Response:
        """Send POST /infer with the parameters, and a label where one is given: a file, or the text of a path there."""
        sent = {} if label is None or isinstance(label, Path) else {"label": label}
        parts = {"params": (None, json.dumps({"device": "cpu", **sent, **params}))}
        if isinstance(label, Path):
            parts["label"] = (label.name, label.read_bytes())
        return self._post(f"/infer/{model}?image={image}&output={output}", files=parts)

    def upload(self, image: str, file: Path) -> None:
        """Add a study's image as a client does."""
        url = f"{self.url}/datastore/?image={image}"
        requests.put(url, files={"file": (file.name, file.read_bytes())}, timeout=60).raise_for_status()

    def submit(self, image: str, label: Path) -> None:
        """Store a label as an annotator's client does."""
        url = f"{self.url}/datastore/label?image={image}&tag=final"
        requests.put(url, files={"label": (label.name, label.read_bytes())}, timeout=60).raise_for_status()

    def train(self, **params: object) -> Response:
        """Send POST /train and wait for its end."""
        return self._post(f"/train/{NAME}?run_sync=true", json={"device": "cpu", "multi_gpu": False, **params})

    def _post(self, path: str, **content: object) -> Response:
        return requests.post(f"{self.url}{path}", timeout=300, **content)

    def _run(self, *arguments: str) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(SHIM), "OMP_NUM_THREADS": "1"}
        with self.log.open("a") as log:
            command = [str(self.python), "-m", "monailabel.main", *arguments]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def _wait(self) -> None:
        """Wait until the server answers; say what it logged where it does not."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/info/", timeout=30).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.5)
        raise RuntimeError(f"MONAI Label did not start:\n{self.log.read_text()[-3000:]}")
