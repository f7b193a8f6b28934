"""Options that make no sense are refused in one sentence, before anything is written."""

import numpy as np
import pytest

from vae_serve.errors import UsageError
from vae_serve.training import config
from vae_serve.training import schedule as schedules


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--latent-dim", 0), 2, "--latent-dim 0: a latent space has at least 1 dimension"),
        (("--validation-split", "1.0"), 2, "--validation-split 1.0: give a share from 0 up to, but without, 1"),
        (("--batch-size", 0), 2, "--batch-size 0: a batch has at least 1 image"),
        (("--epochs", 0), 2, "--epochs 0: training takes at least 1 epoch"),
        (("--seed", -1), 2, "--seed -1: give 0 up to 4294967295"),
        (("--clip-norm", 0), 2, "--clip-norm 0.0: give more than 0"),
        (("--beta", "nan"), 2, "--beta nan: give 0 or more"),
        (("--image-size", "banana"), 2, "--image-size banana: write HxW or HxWxC, such as 28x28 or 64x64x3"),
        (("--image-size", "8x8x2"), 2, "--image-size 8x8x2: an image has 1 channel (grey) or 3 (RGB)"),
        (("--device", "tpu"), 2, "--device tpu: choose from auto, cpu, gpu"),
        (("--precision", "int8"), 2, "--precision int8: choose from float32, bfloat16, float16"),
        (("--config", "none.toml"), 2, "--config none.toml cannot be read: No such file or directory"),
        (("--resume",), 1, "no unfinished run under runs/; name one with --out"),
        (("--resume", "--out", "nowhere"), 1, "nowhere is not a run: it has no run.json"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(vae_serve, tmp_path, words, code, message):
    refused = vae_serve("train", *words, cwd=tmp_path)
    assert refused.returncode == code
    assert refused.stderr == f"vae-serve: error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_fewer_images_than_a_batch_and_an_absent_gpu_are_refused(vae_serve, tmp_path, digits):
    np.savez(tmp_path / "few.npz", x_train=digits[:100], x_test=digits[100:110])
    few = vae_serve("train", "--data", "few.npz", cwd=tmp_path)
    assert few.returncode == 2
    assert "--batch-size 128 is more than the 80 images to train on; ask for at most 80" in few.stderr
    words = ("train", "--data", "few.npz", "--batch-size", 10, "--device", "gpu")
    gpu = vae_serve(*words, cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": "-1"})
    assert gpu.returncode == 2
    assert "--device gpu: TensorFlow finds no GPU; install its CUDA libraries with pip install" in gpu.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["few.npz"]


def test_a_number_that_is_not_finite_stops_training_with_step_tensor_and_checkpoint(vae_serve, tmp_path, small_data):
    stopped = vae_serve("train", "--data", small_data, "--beta", "1e38", "--out", "run", cwd=tmp_path)
    assert stopped.returncode == 1
    assert "not finite at step 1 (epoch 1): the loss itself" in stopped.stderr
    assert "The last good checkpoint is run/checkpoints/step-00000000.npz" in stopped.stderr
    again = vae_serve("train", "--resume", "--out", "run", cwd=tmp_path)
    assert again.returncode == 1
    assert "run diverged, and would again" in again.stderr


def test_a_config_file_gives_way_to_options_and_a_run_s_own_replays_it(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text('arch = "mlp"\nbatch-size = 64\nbeta = 2\n')
    found = config.combine(file, {"batch_size": 32})
    assert (found.arch, found.batch_size, found.beta, found.latent_dim) == ("mlp", 32, 2.0, 2)
    (tmp_path / "b.toml").write_text(found.to_toml())
    assert config.combine(tmp_path / "b.toml", {}) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning = 1", "there is no option 'learning'; the options are data, image_size, arch"),
        ('epochs = "ten"', "epochs = 'ten' must be of type int"),
        ("seed = true", "seed = True must be of type int"),
        ("= 3", "cannot be read: Invalid"),
    ],
)
def test_a_config_file_that_is_wrong_is_refused(tmp_path, text, message):
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        config.combine(file, {})


def test_a_schedule_keeps_its_shares_over_any_number_of_epochs():
    schedule = schedules.Schedule("r", (schedules.Phase(61, 4e-3), schedules.Phase(21, 1e-3)))
    assert [phase.epochs for phase in schedule.scaled(10).phases] == [7, 3]
    assert [phase.epochs for phase in schedule.scaled(82).phases] == [61, 21]
    assert [phase.epochs for phase in schedule.scaled(3).phases] == [2, 1]
    assert [phase.epochs for phase in schedule.scaled(1).phases] == [1]
    assert schedules.find("tutorial", "conv", None).epochs == 100
    assert [phase.epochs for phase in schedules.find("best", "conv", 3).phases] == [1, 2]
    with pytest.raises(UsageError, match="--schedule secret: the schedules are best, careful, tutorial"):
        schedules.find("secret", "conv", None)
