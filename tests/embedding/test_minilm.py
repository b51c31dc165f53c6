"""The bundled encoder in NumPy gives the vectors of the same network in transformers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from tripletcl.embedding.minilm import LONGEST, MiniLM
from tripletcl.embedding.published import minilm_folder

TEXTS = ["dog", "a person riding the horse", "", "caf\u00e9 \u72ac, x-ray & co.", "word " * 2 * LONGEST]


@pytest.mark.parametrize("text", TEXTS)
@torch.no_grad()
def test_a_vector_is_that_of_transformers(text: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(minilm_folder())(text, truncation=True, return_tensors="pt")
    states = AutoModel.from_pretrained(minilm_folder()).eval()(**tokens).last_hidden_state[0]
    np.testing.assert_allclose(MiniLM().encode([text])[0], states.mean(0), atol=5e-6)


def test_a_new_text_needs_no_torch() -> None:
    code = (
        "import sys\nfrom tripletcl.embedding.text_vectors import text_encoder\n"
        "assert text_encoder('minilm').encode(['dog']).any()\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
