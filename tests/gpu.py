"""Tests that need a CUDA GPU: `pytest -m cuda` runs them alone; they skip where there is none."""

import pytest
import torch

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
GPU = pytest.param(torch.device("cuda"), marks=(pytest.mark.cuda, on_gpu))
