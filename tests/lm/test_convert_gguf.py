"""Conversion of GGUF files; test_weights.py has the conversion itself."""

import logging

import pytest
from transformers.utils import logging as transformers_logging

from cmt.lm.convert_gguf import quiet_transformers


@pytest.mark.parametrize("progress_bar", [True, False])
def test_the_logging_of_transformers_is_restored(progress_bar: bool) -> None:
    level, before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    enable, disable = transformers_logging.enable_progress_bar, transformers_logging.disable_progress_bar
    (enable if progress_bar else disable)()
    try:
        with pytest.raises(KeyError), quiet_transformers():
            assert not transformers_logging.is_progress_bar_enabled()
            assert transformers_logging.get_verbosity() == logging.ERROR
            raise KeyError
        assert transformers_logging.is_progress_bar_enabled() == progress_bar
        assert transformers_logging.get_verbosity() == level
    finally:
        (enable if before else disable)()
