"""Recurrent text classifiers (RNN, LSTM, GRU) as first-class Hugging Face models."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from .configuration_rnn import RNNConfig
from .modeling_rnn import RNNForSequenceClassification, RNNModel, RNNPreTrainedModel
from .text_classifier import TextClassifier
from .version import __version__

AutoConfig.register(RNNConfig.model_type, RNNConfig)
AutoModel.register(RNNConfig, RNNModel)
AutoModelForSequenceClassification.register(RNNConfig, RNNForSequenceClassification)

__all__ = [
    "RNNConfig",
    "RNNForSequenceClassification",
    "RNNModel",
    "RNNPreTrainedModel",
    "TextClassifier",
    "__version__",
]
