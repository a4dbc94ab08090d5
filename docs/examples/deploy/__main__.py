"""`python docs/examples/deploy -i DICOM -o OUTPUT -m BUNDLE`, and what a packaged application starts."""

from app import RefinementApp
from monai.deploy.exceptions import MONAIAppSdkError

if __name__ == "__main__":
    try:
        RefinementApp().run()
    except (ValueError, OSError, MONAIAppSdkError) as error:  # the series or the settings are at fault
        raise SystemExit(f"Error: {error}") from error
