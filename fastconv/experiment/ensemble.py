"""Train an ensemble into a run folder, member by member; or make one from trained runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from ..datasets.record import ImageSet
from ..errors import ArgumentError
from ..models.ensemble import Ensemble
from ..network.views import Views
from ..training.learned import checksum
from ..training.ranks import Ranks
from .data import Data
from .evaluate import Evaluation, draw_evaluation, evaluate
from .folder import RunFolder, RunResult, noting
from .members import Members
from .networks import expect_networks, load_alone, load_network
from .settings import RunConfig, continued_config
from .train import ALONE, Outcome, train_on

__all__ = [
    *("EnsembleOutcome", "Member", "join_runs", "member_configs", "train_ensemble"),
]


@dataclass(frozen=True)
class Member:
    """How a member's run ended.

    Attributes
    ----------
    model : str
    seed : int
    run : str
        Its folder.
    result : RunResult
        What its ``result.json`` says.
    sound : bool
        As in `fastconv.experiment.train.Outcome`.
    """

    model: str
    seed: int
    run: str
    result: RunResult
    sound: bool


@dataclass(frozen=True)
class EnsembleOutcome:
    """How the run of an ensemble ended.

    Attributes
    ----------
    stopped_by : int
        The signal that ended it early, after saving; 0 if none did.
    members : list of Member
        The members that have finished.
    evaluation : Evaluation or None
        Of all members together, unless the run was ended early.
    config : RunConfig
        With the facts of the images, if they are the user's own.
    """

    stopped_by: int
    members: list[Member]
    evaluation: Evaluation | None
    config: RunConfig

    @property
    def seconds(self) -> float:
        """Seconds of the members' training steps."""
        return sum(member.result.seconds for member in self.members)

    @property
    def sound(self) -> bool:
        """Whether all members' runs are sound."""
        return all(member.sound for member in self.members)


def member_configs(config: RunConfig) -> list[RunConfig]:
    """Return the configuration of each member's own run."""
    own = Data(config.data).own
    return [
        dataclasses.replace(
            config,
            model=model,
            seed=config.seed + number,
            members=None,
            data_seed=config.split_seed if own else config.data_seed,
        )
        for number, model in enumerate(config.members or ())
    ]


def train_ensemble(
    data: ImageSet,
    folder: RunFolder,
    config: RunConfig,
    *,
    resume: bool,
    progress: bool,
    say: Callable[[str], None],
    ranks: Ranks = ALONE,
) -> EnsembleOutcome:
    """Train each of the members that ``config.members`` names, then test them together.

    With `resume`, members that have finished are kept, and the first that has not goes on.
    Parameters are those of `fastconv.experiment.train.train_on`. Of several `ranks`, each trains
    some of the members; the first tests them, and is the one that gets a whole outcome.
    """
    if ranks.first:
        if resume:
            folder.write_config(config)
        folder.result.unlink(missing_ok=True)
    configs = member_configs(config)
    expect_networks(configs)
    if ranks.size > 1:
        signal = _train_shares(data, folder, config, ranks, progress=progress, say=say)
        if signal or not ranks.first:
            return EnsembleOutcome(signal, [], None, config)
        say = _say_nothing
    members: list[Member] = []
    shares: list[NDArray[Any]] = []
    for number, own in enumerate(configs, start=1):
        place, signal = folder.member(number), 0
        evaluation: Evaluation | None
        trained = _is_trained(place, own)
        say(
            f"member {number} of {len(configs)}: {own.model}, seed {own.seed}"
            + (", trained before" if trained else "")
        )
        if trained:
            alone = load_alone(own, place.weights)
            ended = place.read_result()
            sound = ended.diverged is None or ended.epochs == own.epochs or own.patience is not None
            evaluation = evaluate(alone, data, own.backend, progress)
        else:
            before = partial(folder.write_config, config)
            outcome = _train(data, place, own, before, progress=progress, say=say)
            evaluation, signal, sound = outcome.evaluation, outcome.signal, outcome.sound
        if evaluation is not None:
            result = place.read_result()
            members.append(Member(own.model, own.seed, str(place.path), result, sound))
            shares.append(evaluation.probabilities)
        if signal and len(members) < len(configs):
            return EnsembleOutcome(signal, members, None, config)
    places = [folder.member(number) for number in range(1, len(configs) + 1)]
    ensemble = _gather(list(zip(configs, places, strict=True)), config.views)
    ensemble.save(folder.ensemble)
    by_member = Members.of(shares, data.test.labels)
    together = Evaluation(data.test, data.class_names, ensemble.joined(shares), by_member)
    draw_evaluation(together, config.facts, folder, say)
    outcome_of_all = EnsembleOutcome(0, members, together, config)
    counted = (together.accuracy, together.correct, together.total)
    folder.write_result(RunResult(*counted, outcome_of_all.seconds, by_class=together.by_class))
    return outcome_of_all


def _say_nothing(text: str) -> None:
    """Of members that have been trained on several ranks all has been said."""


def _train_shares(
    data: ImageSet,
    folder: RunFolder,
    config: RunConfig,
    ranks: Ranks,
    *,
    progress: bool,
    say: Callable[[str], None],
) -> int:
    """Train this rank's members; return a signal that has ended the run early on any rank, or 0."""
    images = (data.train.images, data.train.labels, data.test.images, data.test.labels)
    ranks.expect_same({"images": f"checksum {checksum(*images):08x}"})
    ranks.introduce()
    configs = member_configs(config)
    say(f"{len(configs)} members on {ranks.size} ranks, of which each trains its own")
    signal, left = 0, False
    for number in range(1 + ranks.rank, 1 + len(configs), ranks.size):
        own, place = configs[number - 1], folder.member(number)
        if _is_trained(place, own):
            continue
        if signal:
            left = True
            break
        say(f"member {number} of {len(configs)}: {own.model}, seed {own.seed}")
        before = partial(folder.write_config, config) if ranks.first else lambda: None
        outcome = _train(data, place, own, before, progress=progress, say=say)
        signal, left = outcome.signal, outcome.evaluation is None
    everyones = ranks.gathered((signal, left))
    return next((signal for signal, _ in everyones if signal), 0) * any(
        left for _, left in everyones
    )


def _train(
    data: ImageSet,
    place: RunFolder,
    own: RunConfig,
    before: Callable[[], None],
    *,
    progress: bool,
    say: Callable[[str], None],
) -> Outcome:
    """Train a member, or go on with it."""
    begun = place.config_file.exists()
    with place.held(new=not begun):
        return train_on(data, place, own, resume=begun, progress=progress, say=say, before=before)


def _is_trained(place: RunFolder, own: RunConfig) -> bool:
    """Whether a member's run has finished, and was tested as is asked for now."""
    if not place.config_file.exists():
        return False
    stored = place.read_config()
    with noting(place.config_file):
        continued_config(stored, vars(own), lambda text: None)
    asked_for = (stored.epochs, stored.views) == (own.epochs, own.views)
    return asked_for and place.result.is_file() and place.weights.is_file()


def _gather(runs: Sequence[tuple[RunConfig, RunFolder]], views: str | None) -> Ensemble:
    """The trained networks of these runs, with what an ensemble's file says about them."""
    networks = [load_network(config, place.weights) for config, place in runs]
    about = {"runs": [config.plain() for config, _ in runs], "views": views}
    return Ensemble(networks, Views.parse(views).views, about)


def join_runs(paths: Sequence[str], views: str | None, backend: str) -> Ensemble:
    """Return the networks of these run folders as one ensemble; an ensemble's adds all its members.

    Raises
    ------
    ArgumentError
        No run; runs on images that differ in size, classes or normalization; or on a user's own
        images in different splits, where one was trained on what another is tested on.
    DataNotFound, DataCorrupt, WeightsError
        A run without weights, or with damaged ones.
    """
    runs: list[tuple[RunConfig, RunFolder]] = []
    for path in paths:
        folder = RunFolder(path)
        config = folder.read_config()
        inside = range(1, len(config.members or ()) + 1)
        for place in [folder.member(number) for number in inside] or [folder]:
            own = dataclasses.replace(place.read_config(), backend=backend)
            _expect_alike(runs[0] if runs else (own, place), (own, place))
            runs.append((own, place))
    return _gather(runs, views)


def _expect_alike(first: tuple[RunConfig, RunFolder], other: tuple[RunConfig, RunFolder]) -> None:
    (here, this), (there, that) = first, other
    ours, theirs = here.facts, there.facts
    # Another split also changes the normalization, so that it is checked first.
    same = ours.fingerprint == theirs.fingerprint and ours.test_share is not None
    if same and here.split_seed != there.split_seed:
        raise ArgumentError(
            f"{that.path}: its images were split by the seed {there.split_seed}, those of "
            f"{this.path} by {here.split_seed}: one was trained on what the other is tested on; "
            "train them by --members, or on data with a test part of their own"
        )
    for name in ("shape", "class_names", "normalization"):
        if getattr(ours, name) != getattr(theirs, name):
            raise ArgumentError(
                f"{that.path}: its images differ in {name.replace('_', ' ')} from those of "
                f"{this.path}; an ensemble's members see the same"
            )
