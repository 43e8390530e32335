"""The arms of the miniature experiments: what each changes, and runs of them."""

import json
import time

import pytest
import torch
from facewright.benchmarks import _arms_before, _arms_run, arms
from facewright.benchmarks._arms import (
    CONFIGS,
    FRESH_FACES,
    FRESH_VRE,
    METHODS,
    PERCEPTUAL,
    SEEDS,
    SHELF,
    TRAINED,
    Places,
)
from facewright.benchmarks._arms_run import Job, Outcome, check_same, jobs_of, train_all, train_one
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.modules.face_encoder import FaceEncoder
from facewright.training.methods.flipnet_faces import encoder_within
from facewright.training.methods.vre import load_embedder
from facewright.training.settings.config import load_config
from facewright.training.train import stages

ALL = [(method, arm) for method, about in METHODS.items() for arm in about.arms]


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """(method, arm) -> the config of its first run."""
    places = Places(tmp_path_factory.mktemp("a folder, {with} a #name"))
    return {
        (job.method, job.arm): load_config(job.config, stages()[job.stage].Config, job.overrides)
        for method in METHODS
        for job in jobs_of(places, method, seeds=SEEDS[:1])
    }


def flat(value, start=""):
    if isinstance(value, dict):
        return {
            k: v for name, part in value.items() for k, v in flat(part, f"{start}{name}.").items()
        }
    return {start[:-1]: value}


def changed(configs, method, arm, reference):
    """Keys in which an arm's config differs from the reference's, beside its folder."""
    one, other = (flat(configs[method, a].model_dump(mode="json")) for a in (arm, reference))
    return {k for k in one.keys() | other.keys() if one.get(k) != other.get(k)} - {"output"}


CHANGES = {
    ("osdface", "vre"): {
        "learned": {"recipe.prompt"},
        "zeros": {"recipe.prompt"},
        "shuffled": {"recipe.prompt"},
        "unassociated": {"recipe.vre"},
        "associated": {"recipe.vre"},
        "dists": {"recipe.perceptual", "recipe.weights.perceptual"},
        "ea-lpips": {"recipe.perceptual", "recipe.weights.perceptual"},
        "lpips": {"recipe.perceptual", "recipe.weights.perceptual"},
        "mse": {"recipe.perceptual"},
        "gan-low": {"recipe.weights.gan"},
        "gan-high": {"recipe.weights.gan"},
        "no-id": {"recipe.weights.identity"},
    },
    ("honestface", "full"): {
        "ffe": {"recipe.embedder.use_identity"},
        "fie": {"recipe.embedder.use_eyes"},
        "plain": {"recipe.embedder.use_identity", "recipe.embedder.use_eyes"},
        "mfa-none": {"recipe.weights.mfa"},
        "mfa-mse": {"recipe.mfa_distance", "recipe.weights.mfa"},
        "mfa-dists": {"recipe.mfa_distance", "recipe.weights.mfa"},
    },
    ("flipnet", "faces"): {"none": {"recipe.drop_face"}, "unassociated": {"recipe.face_encoder"}},
    ("flipnet", "on-the-fly"): {
        "off-shelf": {"off_shelf.folder", "off_shelf.share"},
        "both": {"off_shelf.folder", "off_shelf.share"},
    },
}


def test_arms_differ_in_what_their_names_say_and_in_nothing_else(configs):
    assert set(configs) == set(ALL)
    for (method, reference), arms_of in CHANGES.items():
        for arm, keys in arms_of.items():
            assert changed(configs, method, arm, reference) == keys, (method, arm)
    without = changed(configs, "osdface", "no-gan", "vre")
    assert {k for k in without if not k.startswith("optimizers.discriminator")} == {
        "recipe.weights.gan"
    }
    assert configs["osdface", "no-gan"].optimizers.keys() == {"generator"}
    tokens = changed(configs, "flipnet", "arcface", "faces")
    assert all(k.startswith(("recipe.face_encoder", "recipe.face_recogniser")) for k in tokens)


def test_all_arms_are_equally_long_and_see_the_same_pictures(configs):
    for (method, arm), config in configs.items():
        about = METHODS[method]
        assert config.budget.max_steps == config.validate_every == about.steps, arm
        assert (config.batch_size, config.threads, config.precision) == (4, 1, "bf16")
        assert config.degradation.variants == 1 and config.seed == SEEDS[0]
        assert (CONFIGS / f"{about.arms[arm].config}.yaml").is_file()
    heavy = {m: configs[m, a].degradation for m, a in (("osdface", "vre"), ("honestface", "full"))}
    assert heavy["osdface"].overrides == heavy["honestface"].overrides == {"scale": [6, 16]}


def test_the_gan_starts_in_the_middle_at_three_weights(configs):
    recipes = [configs["osdface", a].recipe for a in ("gan-low", "vre", "gan-high")]
    assert [r.weights.gan for r in recipes] == [0.003, 0.01, 0.03]
    assert {r.discriminator.start for r in recipes} == {0.5}
    # Other terms that compare features or edges would stand in for the one that is taken out.
    assert {(r.weights.features, r.weights.edges) for r in recipes} == {(0, 0)}


def test_each_perceptual_term_has_its_own_weight(configs):
    for arm, name in (("vre", "ea-dists"), *((x, x) for x in ("dists", "ea-lpips", "lpips"))):
        recipe = configs["osdface", arm].recipe
        assert (recipe.perceptual, recipe.weights.perceptual) == (name, PERCEPTUAL[name])


def test_what_an_arm_needs_is_made_of_bundled_files_or_of_runs_with_a_command():
    needs = {n for about in METHODS.values() for arm in about.arms.values() for n in arm.needs}
    assert needs == {*FRESH_VRE, *FRESH_FACES, SHELF}
    for source in {**FRESH_VRE, **FRESH_FACES}.values():
        assert source in TRAINED or Places(CONFIGS).path(source).is_file()


def test_seeds_come_first_and_unknown_arms_are_named(tmp_path):
    jobs = jobs_of(Places(tmp_path), "osdface", seeds=(1, 2), only=("vre", "zeros"))
    assert [(j.seed, j.arm) for j in jobs] == [(1, "vre"), (1, "zeros"), (2, "vre"), (2, "zeros")]
    with pytest.raises(FacewrightError, match="no arm vrf; its arms are vre, learned"):
        jobs_of(Places(tmp_path), "osdface", only=("vrf",))


def test_a_run_of_other_settings_is_not_taken_for_this_one(tmp_path):
    place = Places(tmp_path)
    (job,) = jobs_of(place, "osdface", seeds=(1,), only=("vre",))
    check_same(job)
    out = tmp_path / "arms" / "osdface" / "vre-1"
    out.mkdir(parents=True)
    (out / "run.json").write_text(json.dumps({"made_of": job.made_of}))
    check_same(job)
    (other,) = jobs_of(place, "osdface", seeds=(1,), only=("vre",), steps=7)
    with pytest.raises(FacewrightError, match="other settings or of other weights"):
        check_same(other)


def test_a_run_says_what_it_took_and_goes_on_counting(tmp_path, monkeypatch):
    (job,) = jobs_of(Places(tmp_path), "osdface", seeds=(1,), only=("vre",))
    stops = iter(["SIGINT", None])

    def train(of):
        end = time.process_time() + 0.12
        while time.process_time() < end:
            pass
        stopped = next(stops)
        if stopped is None:
            (tmp_path / "arms" / "osdface" / "vre-1" / "export").mkdir()
        return {"finished": stopped is None, "stopped_by": stopped}

    monkeypatch.setattr(_arms_run, "_train", train)
    monkeypatch.setattr(_arms_run, "_stopped", False)
    assert not train_one(job).finished and not job.finished
    # A worker that was told to stop begins no other run.
    assert train_one(job) == Outcome(job, False, 0.0)
    monkeypatch.setattr(_arms_run, "_stopped", False)
    assert train_one(job).finished and job.finished
    record = job.record()
    assert record["cpu_s"] >= 0.2 and record["arm"] == "vre"
    assert "cache.folder=$runs/arms/frozen" in record["settings"]
    assert _arms_run.spent([job]) == {"vre": [record["cpu_s"]]}


def test_a_run_that_fails_says_so_in_its_log_and_in_its_outcome(tmp_path, monkeypatch):
    (job,) = jobs_of(Places(tmp_path), "osdface", seeds=(1,), only=("vre",))

    def train(of):
        raise FacewrightError("The data are gone.")

    monkeypatch.setattr(_arms_run, "_train", train)
    outcome = train_one(job)
    assert (outcome.finished, outcome.trouble) == (False, "The data are gone.")
    log = tmp_path / "arms" / "osdface" / "vre-1" / "train.log"
    assert "The data are gone." in log.read_text()


def test_an_arm_whose_files_are_missing_is_left_out_and_says_what_makes_them(tmp_path, capsys):
    with pytest.raises(SystemExit, match="Not all runs are finished"):
        arms.main(["--method", "osdface", "--only", "unassociated", "--runs", str(tmp_path)])
    assert "vq_lq.safetensors is not there; train vre-hq, vre-lq first" in capsys.readouterr().out
    assert not (tmp_path / "arms" / "osdface").exists()


def test_fresh_face_encoders_have_the_same_untrained_adapter(tmp_path):
    made, source = next(iter(FRESH_FACES.items()))
    places = Places(tmp_path)
    assert _arms_before.prepare(places, {made}, print) == {}
    one, bundled = encoder_within(places.path(made)), encoder_within(places.path(source))
    for name, tensor in one.state_dict().items():
        if not name.startswith("adapter."):
            assert torch.equal(tensor, bundled.state_dict()[name]), name
    assert not torch.equal(one.adapter.positions, bundled.adapter.positions)
    _arms_before.prepare(places, {made}, print)
    again = encoder_within(places.path(made))
    assert all(torch.equal(again.state_dict()[k], v) for k, v in one.state_dict().items())
    with pytest.raises(CheckpointError, match="adapter"):
        FaceEncoder.from_file(places.path(made))


def test_a_fresh_embedder_keeps_its_codes_and_has_tokens_of_rms_1(tmp_path, monkeypatch):
    made = next(iter(FRESH_VRE))
    monkeypatch.setitem(FRESH_VRE, made, "$weights/nano_vre.safetensors")
    places = Places(tmp_path)
    assert _arms_before.prepare(places, {made}, print) == {}
    one, bundled = (load_embedder(places.path(x)) for x in (made, "$weights/nano_vre.safetensors"))
    lq = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    tokens = one.tokenize(lq)
    assert torch.equal(tokens, bundled.tokenize(lq))
    everything = one.embed(torch.arange(one.config.num_codes)[None])
    assert everything.square().mean().sqrt().item() == pytest.approx(1, abs=0.01)
    assert not torch.allclose(one.embed(tokens), bundled.embed(tokens), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "arm"), [("osdface", "vre"), ("honestface", "full"), ("flipnet", "arcface")]
)
def test_an_arm_of_each_method_trains_and_exports(tmp_path, method, arm):
    small = ("data.identities=6", "data.photos=2", "data.held_out=3", "validate_images=1")
    jobs: list[Job] = jobs_of(
        Places(tmp_path), method, seeds=(1,), only=(arm,), steps=2, more=small
    )
    (outcome,) = train_all(Places(tmp_path), jobs, 1, print)
    assert outcome.finished and outcome.cpu_s > 0
    export = tmp_path / "arms" / method / f"{arm}-1" / "export"
    assert list(export.glob("*_lora.safetensors"))
    assert not (export.parent / "checkpoints").exists()
