"""The data that ships in the package, for `kinkopt demo` and for examples."""

from kinkopt.data._digits import load_digits

__all__ = ["load_digits"]
