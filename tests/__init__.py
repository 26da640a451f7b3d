"""The tests, and the checker of annotations that they run the library under (see pyproject.toml)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an integer will do for a float, as in PEP 484
