import pytest
import torch
from torch import Tensor, nn

from rnn_hf import RNNConfig
from rnn_hf.layers_rnn import RNNLayer
from rnn_hf.recurrences_rnn import ElmanRecurrence, GRURecurrence
from tests.tiny_models import both_directions, every_cell


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize(("recurrence", "num_gates"), [(ElmanRecurrence, 1), (GRURecurrence, 3)])
def test_own_backward_passes_are_those_of_the_forward_passes(
    recurrence: type[torch.autograd.Function], num_gates: int, length: int
) -> None:
    torch.manual_seed(0)
    shapes = [(length, 3, 4), (3, 2), (num_gates * 2, 4), (num_gates * 2, 2), (num_gates * 2,), (num_gates * 2,)]
    inputs, initial, *weights = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    assert torch.autograd.gradcheck(recurrence.apply, (inputs, None, *weights))
    assert torch.autograd.gradcheck(recurrence.apply, (inputs, initial, *weights))


@pytest.mark.parametrize("is_padded", [False, True], ids=["full", "padded"])
@both_directions
@every_cell
def test_states_and_gradients_of_training_are_those_of_torch_over_packed_texts(
    cell_type: str, bidirectional: bool, is_padded: bool
) -> None:
    """Whatever form the recurrence takes in training, on one thread and on two."""
    torch.manual_seed(0)
    layer = RNNLayer(RNNConfig(cell_type=cell_type, hidden_size=6, bidirectional=bidirectional), 5).train()
    lengths = torch.tensor([4, 9, 1, 7]) if is_padded else torch.tensor([9, 9, 9, 9])
    mask = torch.arange(9) < lengths.unsqueeze(1)
    inputs = torch.randn(4, 9, 5, requires_grad=True)
    weights = torch.randn(4, 9, layer.recurrent.hidden_size * (2 if bidirectional else 1))

    def states_and_gradients(states: Tensor) -> list[Tensor]:
        sources = [inputs, *layer.parameters()]
        return [states.detach(), *torch.autograd.grad((states * weights).sum(), sources)]

    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    expected = states_and_gradients(nn.utils.rnn.pad_packed_sequence(layer.recurrent(packed)[0], batch_first=True)[0])
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        actual = states_and_gradients(layer(inputs, mask if is_padded else None)[0])
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    torch.set_num_threads(1)


@pytest.mark.parametrize(("cell_type", "loop"), [("rnn", "ElmanRecurrenceBackward"), ("gru", "GRURecurrenceBackward")])
def test_cells_that_torch_does_not_fuse_run_as_loops_of_our_own(cell_type: str, loop: str) -> None:
    layer = RNNLayer(RNNConfig(cell_type=cell_type), 5)
    states, _ = layer(torch.randn(2, 3, 5))
    assert loop in str(states.grad_fn.next_functions)  # type: ignore[union-attr]
    states, _ = layer.bfloat16()(torch.randn(2, 3, 5, dtype=torch.bfloat16))
    assert loop not in str(states.grad_fn.next_functions)  # type: ignore[union-attr]
