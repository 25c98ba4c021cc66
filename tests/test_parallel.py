"""Averages, replicas, shared memory and batch norm, on 1 and 3 ranks."""

import pytest
import torch

from gan_mpi.parallel.replicas import digest

VECTORS = ["batch_norm_against_torch", [7, 3], [4, 0, 3]]
IMAGES = ["batch_norm_against_torch", [6, 2, 3, 3], [1, 5, 0]]
CALLS = {
    "averages": ["averages"],
    "staged": ["averages", True],
    "vectors": VECTORS,
    "images": IMAGES,
    "two vectors": ["two_batches_in_one_pass", [3], [4, 0, 3]],
    "two images": ["two_batches_in_one_pass", [2, 3, 3], [0, 1, 5]],
    "local": ["local_batch_norm", [4, 3, 2]],
    "bright": ["batch_norm_of_bright_images"],
    "second derivative": ["second_derivative"],
    "plain vectors": ["fused_and_plain", [3], [4, 0, 3]],
    "plain images": ["fused_and_plain", [2, 3, 3], [0, 1, 5]],
    "traces": ["which_passes_leave_a_trace"],
    "replicas": ["differing_replicas"],
    "shared": ["shared_copy", None],
    "private": ["shared_copy", 1000],
    "pieces": ["broadcast_in_pieces"],
    "errors": ["errors_on_some"],
    "generators": ["global_generators_stand_still"],
    "round trip": ["state_round_trip"],
}


@pytest.fixture(scope="module")
def answers(mpirun):
    """What each of three ranks answers to each call."""
    everyone = mpirun(3, "several", list(CALLS.values()))
    return dict(zip(CALLS, zip(*everyone, strict=True), strict=True))


@pytest.mark.parametrize("way", ["averages", "staged"])
def test_gradients_are_sums_over_samples_divided_by_the_global_count(answers, way):
    """3 ranks with 0, 1 and 2 samples of value 1, 2 and 3: the mean input is 8/3."""
    for weight, bias, stop, message in answers[way]:
        assert weight == pytest.approx(8 / 3)
        assert bias == pytest.approx(1.0)
        assert stop is True
        assert "left its bucket" in message


@pytest.mark.parametrize("shape", ["vectors", "images"])
def test_batch_norm_over_uneven_and_empty_shares_is_that_of_one_big_batch(answers, shape):
    for gaps in answers[shape]:
        assert max(gaps.values()) < 1e-11, gaps


@pytest.mark.parametrize("shape", ["two vectors", "two images"])
def test_two_batches_in_one_pass_are_normalised_apart_and_share_messages(answers, shape):
    for gap, messages in answers[shape]:
        assert gap < 1e-12
        assert messages == [2, 4], "one forward and one backward, in the place of two"


def test_local_batch_norm_sees_one_share_and_its_statistics_are_the_average(answers):
    assert max(gap for gaps in answers["local"] for gap in gaps) < 1e-12


def test_batch_norm_is_accurate_where_the_mean_is_far_from_zero(answers):
    """In float32, whose own rounding of a pixel of 100 is 4e-6."""
    assert max(answers["bright"]) < 3e-5


@pytest.mark.parametrize("shape", ["plain vectors", "plain images"])
def test_fused_kernels_compute_what_plain_arithmetic_does(answers, shape):
    assert max(answers[shape]) < 1e-12


def test_batch_norm_is_differentiable_twice(answers):
    assert answers["second derivative"] == ([True, True],) * 3


def test_only_passes_that_train_a_layer_move_its_running_statistics(answers):
    for trace in answers["traces"]:
        assert trace == [0, 0, 1, True, False]


def test_a_replica_that_differs_is_named_with_its_rank(answers):
    for message in answers["replicas"]:
        assert message.startswith("G.bias on rank 2 is not what it is on rank 0:")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rounding_is_seen_wherever_it_is(dtype):
    numbers = (1 + 0.9 * torch.rand(3, 5, 7, dtype=torch.float64)).to(dtype)  # one ulp for all
    same = numbers.clone(memory_format=torch.contiguous_format)
    assert digest(numbers) == digest(same)
    ulp = torch.finfo(dtype).eps
    flat = same.view(-1)
    flat[3] += ulp
    assert digest(numbers) != digest(same)
    flat[9] -= ulp
    flat[11] -= ulp
    flat[10] += ulp
    assert digest(numbers) != digest(same), "also where roundings cancel"


def test_the_data_is_one_copy_a_node_or_a_private_one(answers):
    assert answers["shared"] == ([True, True, False, True],) * 3, "and no map of a file"
    assert answers["private"] == ([False, True, False, True],) * 3


def test_an_error_of_one_rank_is_raised_on_all(answers):
    for on_root, on_last, result in answers["errors"]:
        assert on_root == on_last == ["the file is bad", 2, True]
        assert result == 17


def test_no_global_generator_is_used_in_a_step(answers):
    assert answers["generators"] == ([True, True],) * 3


def test_all_of_a_state_comes_back_from_a_checkpoint(answers):
    assert answers["round trip"] == ([True, True, True],) * 3


def test_one_rank_is_no_special_case(mpirun):
    calls = [["shared_copy", None], ["batch_norm_against_torch", [4, 2], [4]]]
    ((shared, gaps),) = mpirun(1, "several", calls)
    assert shared == [True, True, False, True]
    assert max(gaps.values()) < 1e-11


def test_a_large_broadcast_goes_in_pieces(answers):
    for numbers in answers["pieces"]:
        assert numbers == list(range(100))


def test_each_node_reads_the_data_once_and_shares_one_copy(mpirun):
    """Four ranks on two nodes, which are two halves of this one."""
    counts, reads, are_one, values, files = zip(*mpirun(4, "two_nodes"), strict=True)
    assert counts == (2, 2, 2, 2)
    assert reads == (1, 0, 1, 0)
    assert all(are_one)
    assert values == (0, 0, 1, 1)
    assert files[0] == files[1] != files[2] == files[3]
    assert None not in files


def test_what_is_not_a_number_is_in_no_smallest_or_largest(mpirun):
    """MPI libraries answer that differently, and MPICH to each rank."""
    assert mpirun(2, "extremes_of", [[1.0, 5.0], [3.0, 2.0]]) == [[[1.0, 2.0], [3.0, 5.0]]] * 2
    said = "a NaN in MIN or MAX: MPI libraries differ in what they answer"
    assert mpirun(2, "extremes_of", [[float("nan")]] * 2) == [said] * 2
