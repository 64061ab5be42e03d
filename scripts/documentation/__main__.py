"""Build the site into build/documentation/site: ``make docs``."""

from documentation.links import ROOT
from documentation.site import build

if __name__ == "__main__":
    site = build(ROOT / "build" / "documentation")
    print(f"open {site / 'index.html'}")
