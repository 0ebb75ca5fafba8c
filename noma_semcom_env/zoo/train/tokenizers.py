"""The captioner's tokenizer: BLIP's class, with every word of the street captions as one token.

It is given its vocabulary as a mapping, since ``vocab_file=`` is ignored silently and leaves five tokens.
"""

from __future__ import annotations

import string
from collections.abc import Iterable

from transformers import BertTokenizer

from noma_semcom_env.scenes.street import vocabulary


def bert_tokenizer(words: Iterable[str] = vocabulary(), length: int = 32) -> BertTokenizer:
    """WordPiece tokenizer with BLIP's ``[DEC]`` (start of a caption) and ``[ENC]``.

    Args:
        words: Words that become one token each; any other ASCII word is spelled letter by letter.
        length: Longest sequence in tokens.
    """
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *string.punctuation, *("##" + c for c in letters)]
    vocab = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *pieces])
    tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(vocab)}, model_max_length=length)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"extra_special_tokens": ["[ENC]"]})
    return tokenizer
