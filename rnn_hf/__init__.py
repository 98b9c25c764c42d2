"""Recurrent text classifiers, taggers and language models (RNN, LSTM, GRU) as first-class Hugging Face models."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .causal_lm_rnn import RNNCache, RNNForCausalLM
from .configuration_rnn import RNNConfig
from .modeling_rnn import RNNForSequenceClassification, RNNForTokenClassification, RNNModel, RNNPreTrainedModel
from .text_classifier import TextClassifier
from .version import __version__

AutoConfig.register(RNNConfig.model_type, RNNConfig)
AutoModel.register(RNNConfig, RNNModel)
AutoModelForCausalLM.register(RNNConfig, RNNForCausalLM)
AutoModelForSequenceClassification.register(RNNConfig, RNNForSequenceClassification)
AutoModelForTokenClassification.register(RNNConfig, RNNForTokenClassification)

__all__ = [
    "RNNCache",
    "RNNConfig",
    "RNNForCausalLM",
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RNNModel",
    "RNNPreTrainedModel",
    "TextClassifier",
    "__version__",
]
