"""The public names of the package; importing them registers its models and pipelines with transformers."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .causal_lm_rnn import RNNCache, RNNForCausalLM
from .configuration_rnn import RNNConfig
from .data.tokenizer_training import train_tokenizer
from .explanations import Explanation
from .label_errors import find_label_errors
from .modeling_rnn import RNNForSequenceClassification, RNNForTokenClassification, RNNModel, RNNPreTrainedModel
from .pipelines import register_pipelines
from .text_classifier import TextClassifier
from .version import __version__

AutoConfig.register(RNNConfig.model_type, RNNConfig)
AutoModel.register(RNNConfig, RNNModel)
AutoModelForCausalLM.register(RNNConfig, RNNForCausalLM)
AutoModelForSequenceClassification.register(RNNConfig, RNNForSequenceClassification)
AutoModelForTokenClassification.register(RNNConfig, RNNForTokenClassification)
register_pipelines()

__all__ = [
    "Explanation",
    "RNNCache",
    "RNNConfig",
    "RNNForCausalLM",
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RNNModel",
    "RNNPreTrainedModel",
    "TextClassifier",
    "__version__",
    "find_label_errors",
    "train_tokenizer",
]
