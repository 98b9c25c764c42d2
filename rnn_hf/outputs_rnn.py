# Copyright 2026 The rnn_hf authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Output of the encoder."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclass
class RNNModelOutput(ModelOutput):
    """Output of `RNNModel`.

    Args:
        last_hidden_state: States of the top layer, 0 where the mask is 0.
            Shape `(batch_size, sequence_length, num_directions * hidden_size)`.
        hidden_states: The word vectors, then the states of each layer; only with `output_hidden_states`.
        final_hidden_state: State of each layer and direction after reading the whole text.
            Shape `(batch_size, num_hidden_layers * num_directions, hidden_size)`.
        final_cell_state: Cell state of an LSTM, of the same shape; `None` for the other cells.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    final_hidden_state: Tensor | None = None
    final_cell_state: Tensor | None = None


__all__ = ["RNNModelOutput"]
