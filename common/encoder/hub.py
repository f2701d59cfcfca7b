"""Failures of transfers from the Hugging Face Hub, explained with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from common.records import StrataError

REMEDIES = {
    "dataset": "dataset=librispeech_local (files from OpenSLR) or dataset=textgrid",
    "model": "a folder in the Hub's format as model.checkpoint",
}


@contextmanager
def explained(kind: str, what: str) -> Iterator[None]:
    """Turn a failed transfer of `what` ("OWNER/NAME@main") into a StrataError with a remedy.

    `kind` is the config key that named it: "dataset" or "model".
    """
    try:
        yield
    except StrataError:
        raise
    # The client passes errors of whichever HTTP library it is built on (three so far), of fsspec
    # and of Arrow: around a transfer, all of them mean that it failed.
    except Exception as error:
        raise _explain(kind, what, error) from error


def _explain(kind: str, what: str, error: Exception) -> StrataError:
    from huggingface_hub import constants, errors

    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if isinstance(error, errors.GatedRepoError):
        return StrataError(
            f"{what}: access is restricted ({reason}). Accept its terms on the Hub, then log in: "
            "hf auth login, or HF_TOKEN=…"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return StrataError(f"{what}: no such revision ({reason}). Use {kind}.revision=main")
    if isinstance(error, errors.RepositoryNotFoundError):
        return StrataError(
            f"{what}: no such {kind} on {constants.ENDPOINT} ({reason}). Check its spelling; if it "
            "is private, log in: hf auth login"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return StrataError(f"{what}: a file is missing on {constants.ENDPOINT} ({reason})")
    return StrataError(
        f"{what}: tried {constants.ENDPOINT} and the cache HF_HOME={constants.HF_HOME}, and failed "
        f"({reason}). Without network, copy a filled cache and set HF_HOME to it, or set "
        f"HF_ENDPOINT to a mirror, or use {REMEDIES[kind]}. After a broken transfer, run again: it "
        "resumes"
    )
