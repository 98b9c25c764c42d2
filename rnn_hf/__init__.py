"""Recurrent text classifiers and taggers (RNN, LSTM, GRU) as first-class Hugging Face models."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .configuration_rnn import RNNConfig
from .modeling_rnn import RNNForSequenceClassification, RNNForTokenClassification, RNNModel, RNNPreTrainedModel
from .text_classifier import TextClassifier
from .version import __version__

AutoConfig.register(RNNConfig.model_type, RNNConfig)
AutoModel.register(RNNConfig, RNNModel)
AutoModelForSequenceClassification.register(RNNConfig, RNNForSequenceClassification)
AutoModelForTokenClassification.register(RNNConfig, RNNForTokenClassification)

__all__ = [
    "RNNConfig",
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RNNModel",
    "RNNPreTrainedModel",
    "TextClassifier",
    "__version__",
]
