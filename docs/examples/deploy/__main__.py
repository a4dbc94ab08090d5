"""`python docs/examples/deploy -i DICOM -o OUTPUT -m BUNDLE`, and what a packaged application starts."""

from app import RefinementApp

if __name__ == "__main__":
    RefinementApp().run()
