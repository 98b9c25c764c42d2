"""The tests that every model inside transformers must pass, for every head and cell, two layers or two directions.

A language model has one direction, so one layer stands in the place of two directions. A classifier of two directions
has an n-gram branch.

`test_transformers_common.py` copies this file into the unpacked tests of transformers and runs it there.
"""

import unittest
from itertools import product
from typing import Any, get_args

from torch import Tensor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNForTokenClassification, RNNModel
from rnn_hf.causal_lm_rnn import RNNForCausalLM
from rnn_hf.configuration_rnn import CellType
from rnn_hf.safe_loading import HEADS

from .test_configuration_common import ConfigTester
from .test_modeling_common import ModelTesterMixin, global_rng, ids_tensor, random_attention_mask

# some tests ask these tables by name what a class is for, and pass over a class that they do not hold
MODEL_MAPPING_NAMES[RNNConfig.model_type] = RNNModel.__name__
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[RNNConfig.model_type] = RNNForCausalLM.__name__
MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[RNNConfig.model_type] = RNNForSequenceClassification.__name__
MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES[RNNConfig.model_type] = RNNForTokenClassification.__name__


class RNNModelTester:
    """Makes the configuration and the batch that the common tests ask for."""

    is_training = True
    batch_size = 7
    seq_length = 6
    hidden_size = 12
    num_labels = 3

    def __init__(self, cell_type: CellType, bidirectional: bool, num_hidden_layers: int, ngram_buckets: int) -> None:
        self.num_hidden_layers = num_hidden_layers
        self.config_arguments: dict[str, Any] = {
            "vocab_size": 40,
            "embedding_size": self.hidden_size,
            "hidden_size": self.hidden_size // (2 if bidirectional else 1),
            "num_hidden_layers": num_hidden_layers,
            "cell_type": cell_type,
            "bidirectional": bidirectional,
            "classifier_pooling": "mean_max_last",
            "concat_embedding_mean": True,
            "adaptive_softmax_cutoffs": [10, 25],
            "ngram_buckets": ngram_buckets,
        }

    def get_config(self) -> RNNConfig:
        return RNNConfig(**self.config_arguments, num_labels=self.num_labels)

    def prepare_config_and_inputs_for_common(self) -> tuple[RNNConfig, dict[str, Tensor]]:
        shape = [self.batch_size, self.seq_length]
        inputs = {
            "input_ids": ids_tensor(shape, self.config_arguments["vocab_size"]),
            "attention_mask": random_attention_mask(shape),  # with holes
        }
        return self.get_config(), inputs


class RNNCommonTests(ModelTesterMixin):
    has_attentions = False

    cell_type: CellType
    bidirectional: bool
    num_hidden_layers: int
    ngram_buckets: int

    def setUp(self) -> None:
        global_rng.seed(0)  # of the tokens and masks
        self.model_tester = RNNModelTester(
            self.cell_type, self.bidirectional, self.num_hidden_layers, self.ngram_buckets
        )
        self.config_tester = ConfigTester(
            self,
            config_class=RNNConfig,
            common_properties=["hidden_size", "num_hidden_layers"],
            **self.model_tester.config_arguments,
        )

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def test_inputs_embeds(self) -> None:
        if self.ngram_buckets:
            self.skipTest("An n-gram branch counts words by their ids; test_ngrams_rnn.py tests the message.")
        super().test_inputs_embeds()

    def test_can_load_ignoring_mismatched_shapes(self) -> None:
        if self.ngram_buckets:
            self.skipTest(
                "It takes linear layers alone to depend on the number of labels; test_ngrams_rnn.py has its like."
            )
        super().test_can_load_ignoring_mismatched_shapes()

    def test_generation_tester_mixin_inheritance(self) -> None:
        self.skipTest(
            "The source distribution lacks the common tests of generation; test_causal_lm_rnn_generation.py has ours."
        )


# a test passes over all classes that follow the first one it does not apply to: so each head has its own
for head, cell, (suffix, is_bidirectional, num_layers) in product(
    HEADS, get_args(CellType), (("TwoLayers", False, 2), ("Bidirectional", True, 1))
):
    if head is RNNForCausalLM and is_bidirectional:
        suffix, is_bidirectional = "OneLayer", False
    name = f"{head.__name__}_{cell}_{suffix}"
    globals()[name] = type(
        name,
        (RNNCommonTests, unittest.TestCase),
        {
            "all_model_classes": (head,),
            "cell_type": cell,
            "bidirectional": is_bidirectional,
            "num_hidden_layers": num_layers,
            "ngram_buckets": 32 if head is RNNForSequenceClassification and is_bidirectional else 0,
        },
    )
