"""Models by name, the prompts they read and the answers they give."""

from entrocraft.models.loading import (
    EMBEDDED,
    PACKAGED,
    best_device,
    context_length,
    load_model,
    load_tokenizer,
    resolve_model,
)

__all__ = ["EMBEDDED", "PACKAGED", "best_device", "context_length", "load_model", "load_tokenizer", "resolve_model"]
