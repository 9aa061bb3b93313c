"""Which releases a recording was made with; memory differs between them."""

from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = ("torch", "transformers")


def library_versions() -> dict[str, str]:
    """Installed release of each library that takes part in a recording."""
    found: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
