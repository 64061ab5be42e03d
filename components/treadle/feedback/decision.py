"""The decision: evidence in, a verdict out, with its reasons in words. Nothing is read or changed
here.

What is broken goes before what is worse, and what is worse before what has moved:

- a fault upstream *jumps*, the world *creeps*. A column that moves from one look to the next
  further than it ever did while the training rows were collected is an incident: to learn from it
  would be to learn the fault;
- performance goes before drift: inputs that moved under a model that is as good as before are worth
  a look, not a retraining;
- worse means worse beyond doubt, by more than the spec allows.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from treadle.errors import counted
from treadle.feedback_spec import Feedback, LearnFrom
from treadle.monitoring import Evidence, Monitoring, State, Step, Verdict
from treadle.records import Metric

# A step counts as a jump beyond so many times the furthest one that training saw.
JUMP_TIMES = 1.5
# A median that moves by so many spreads, and a share of nulls or unseen categories that grows by so
# much, between two looks.
JUMP_SPREADS = 3.0
JUMP_SHARE = 0.1
# So many values that are alike are stuck, where in training it was fewer by so much.
STUCK_SHARE, STUCK_MORE = 0.9, 0.3
# Fewer models than this are no storm.
LEAST_STORM = 3
MOST_REASONS = 6
Found = tuple[Verdict, list[str]]


def decide(seen: Evidence, options: Feedback) -> Monitoring:
    """Return the verdict on a champion."""
    for judge in (_broken, _worse_than_before, _worse, _seems_worse):
        found = judge(seen, options)
        if found is not None:
            verdict, reasons = found
            break
    else:
        verdict, reasons = _moved(seen, options)
    reasons = [*reasons[:MOST_REASONS], *_asides(seen)]
    return Monitoring(verdict=verdict, reasons=reasons, evidence=seen)


def _broken(seen: Evidence, options: Feedback) -> Found | None:
    reasons = []
    if seen.skew is not None and not seen.skew.passed:
        reasons.append(
            "the server answers otherwise than the model: by up to "
            f"{seen.skew.largest_difference:.2g} on {seen.skew.rows} of the same rows"
        )
    reasons += [_jump_words(step) for step in seen.steps if is_jump(step, options)]
    if not reasons:
        return None
    mend = "this is for its source to mend: nothing is learned from it"
    return Verdict.INCIDENT, [*reasons[: MOST_REASONS - 1], mend]


def is_jump(step: Step, options: Feedback) -> bool:
    """Say whether a column moved as it never did by itself: its values by distance, or its median
    by so many spreads; or its nulls, or categories that training never saw, by share; or that it is
    stuck at a value, as it never was."""
    usual = step.usual
    return (
        step.distance >= max(options.jump_at, JUMP_TIMES * usual.distance)
        or (step.shift or 0.0) >= max(JUMP_SPREADS, JUMP_TIMES * usual.shift)
        or step.nulls[1] - step.nulls[0] >= max(JUMP_SHARE, JUMP_TIMES * usual.nulls)
        or (step.unseen or 0.0) >= JUMP_SHARE
        or _is_stuck(step)
    )


def _is_stuck(step: Step) -> bool:
    return step.alike >= STUCK_SHARE and step.alike - step.usual.alike >= STUCK_MORE


def _jump_words(step: Step) -> str:
    was, now = step.nulls
    words = f"{step.column} jumped"
    if now - was >= JUMP_SHARE:
        return f"{words}: {now:.0%} of its values are null, were {was:.0%}"
    if step.unseen is not None and step.unseen >= JUMP_SHARE:
        return f"{words}: {step.unseen:.0%} of its values are none that training saw"
    if (step.shift or 0.0) >= JUMP_SPREADS:
        return f"{words}: its median moved by {step.shift:.1f} spreads since the look before"
    if _is_stuck(step):
        return (
            f"{step.column} is stuck: {step.alike:.0%} of its values lie together ({step.words}); "
            f"{step.usual.alike:.0%} at most did in training"
        )
    return (
        f"{words} by {step.distance:.2f} (by {step.usual.distance:.2f} at most in training): "
        f"{step.words}"
    )


def _worse_than_before(seen: Evidence, options: Feedback) -> Found | None:
    """Whether the champion before this one is better, on the same rows."""
    if seen.against is None or not seen.against.high < -options.roll_back_at:
        return None
    one = seen.against
    return Verdict.ROLL_BACK, [
        f"version {one.version}, the champion before, would be {-one.gain:.1%} better on the same "
        f"{one.rows:,} labelled rows (95 % interval {-one.high:+.1%} to {-one.low:+.1%})"
    ]


def _worse(seen: Evidence, options: Feedback) -> Found | None:
    if seen.metric is None or seen.reference is None:
        return None
    words = _words(seen.metric, seen.reference, f" on {seen.labelled:,} labelled rows")
    if is_worse(seen.metric, seen.reference, options.retrain_at):
        told = f"{words}: worse by more than {options.retrain_at:.0%} beyond doubt"
        return Verdict.RETRAIN, [told, *_drifts(seen, options.drift_at)]
    calm = f"{words}: not worse by {options.retrain_at:.0%} beyond doubt"
    moved = _drifts(seen, options.drift_at)
    return (Verdict.WATCH if moved else Verdict.HEALTHY), [calm, *moved]


def _words(now: Metric, was: Metric, rows: str = "") -> str:
    return (
        f"{was.name} is {now.value:.4g} ({now.low:.4g} … {now.high:.4g}){rows}, was "
        f"{was.value:.4g} when it was trained"
    )


def is_worse(now: Metric, was: Metric, by: float) -> bool:
    """Say whether a metric is worse than it was by more than the share ``by``, beyond doubt: both
    intervals count."""
    sign = -1 if was.higher_is_better else 1
    doubt = ((now.high - now.low) ** 2 + (was.high - was.low) ** 2) ** 0.5 / 2
    return bool(sign * (now.value - was.value) - doubt > by * abs(was.value))


def _seems_worse(seen: Evidence, options: Feedback) -> Found | None:
    """Without labels: what the probabilities themselves promise."""
    if seen.estimate is None or seen.estimate.metric is None or seen.estimate.reference is None:
        return None
    now, was = seen.estimate.metric, seen.estimate.reference
    words = f"without labels, {_words(now, was)} (estimated)"
    moved = _drifts(seen, options.drift_at)
    if not is_worse(now, was, options.retrain_at):
        return (Verdict.WATCH if moved else Verdict.HEALTHY), [words, *moved]
    return _unlabelled([f"{words}: worse by more than {options.retrain_at:.0%}", *moved], options)


def _unlabelled(reasons: list[str], options: Feedback) -> Found:
    """What is learned comes from labels, unless the source brings them."""
    if options.learn_from is LearnFrom.SOURCE:
        return Verdict.RETRAIN, reasons
    return Verdict.WATCH, [*reasons, "send labels: what is to be learned needs them"]


def _moved(seen: Evidence, options: Feedback) -> Found:
    """Without labels or an estimate: what moved is all there is."""
    if moved := _drifts(seen, options.drift_at):
        return _unlabelled(["there are no labels to measure it by", *moved], options)
    if stirred := _drifts(seen, options.watch_at):
        return Verdict.WATCH, stirred
    return Verdict.HEALTHY, ["no column moved far enough to matter"]


def _drifts(seen: Evidence, at: float) -> list[str]:
    every = [*seen.columns, *([seen.prediction] if seen.prediction else [])]
    moved = [each for each in every if each.significant and each.distance >= at]
    moved.sort(key=lambda each: -each.distance)
    return [f"{each.column} moved by {each.distance:.2f}: {each.words}" for each in moved]


def _asides(seen: Evidence) -> list[str]:
    """What is wrong with the log itself."""
    state = seen.log
    said = [
        (len(state.unreadable), "file", "of the log or of labels left out, since unreadable"),
        (state.repeated, "row", "with an id that came before: counted once"),
        (state.ahead, "row", "from the future: a server's clock is ahead"),
        (state.unknown_class, "label", "of classes that the model doesn't know"),
    ]
    return [f"{counted(count, thing)} {words}" for count, thing, words in said if count]


def storm(looks: Sequence[Monitoring], share: float) -> str | None:
    """Return the column that moved in every one of so many models at once that one upstream fault
    is to blame, None for no storm. ``share`` is of the models that were looked at."""
    wants = [each for each in looks if each.verdict is Verdict.RETRAIN]
    if len(wants) < max(LEAST_STORM, share * len(looks)):
        return None
    moved = [{c.column for c in each.evidence.columns if c.significant} for each in wants]
    common = set.intersection(*moved)
    if not common:
        return None
    first = wants[0].evidence.columns
    return next(each.column for each in first if each.column in common)


def calmed(found: Monitoring, column: str, models: int) -> Monitoring:
    """Return the verdict on one of many models that would be retrained at once."""
    words = (
        f"{models} models would be retrained at once, and {column} moved in all of them: one fault "
        "upstream, not news; nothing is learned from it"
    )
    return found.model_copy(
        update={"verdict": Verdict.INCIDENT, "reasons": [words, *found.reasons]}
    )


def hindrance(state: State, options: Feedback, now: datetime) -> str | None:
    """Return why a retraining has to wait by the spec, None where it needn't."""
    wait = timedelta(seconds=options.cool_down_s)
    last = max([*state.begun, *state.ended], default=None)
    if last is not None and now - last < wait:
        return (
            f"cool-down: the last retraining was at {last:%Y-%m-%d %H:%M}, the next may be at "
            f"{last + wait:%Y-%m-%d %H:%M} (UTC; feedback.cool_down)"
        )
    week = [at for at in state.begun if now - at < timedelta(days=7)]
    if len(week) >= options.retrains_a_week:
        return f"{len(week)} retrainings in the last 7 days (feedback.retrains_a_week)"
    if options.is_quiet(now):
        return f"quiet hours ({options.quiet_hours} UTC; feedback.quiet_hours)"
    return None
