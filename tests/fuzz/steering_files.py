"""Steering files, which a person may write while a job runs: nothing in them may stop it."""

import warnings
from random import Random

from entrocraft.control.steering import SteeringFile, format_steering, parse_steering
from entrocraft.schedules import Band
from fuzz import mutate, noise, places, schedule_strings
from fuzz.target import Case, Outcome, Target, expect

_MAPPINGS = (
    {"schedule": {"type": "linear", "start": 0.75, "end": 0.25}, "width": 0.1},
    {"schedule": "linear(0.6, 0.2)"},
    {"lower": 0.2, "upper": {"type": "piecewise", "knots": [[0, 0.5], [1, 0.4]], "kind": "linear"}},
    {"type": "adaptive", "curve": {"type": "cosine", "start": 0.6, "end": 0.2}, "patience": 10, "speed": 2.0},
    {"schedule": {"type": "linear", "start": 1.0, "end": 0.5, "unit": "initial"}},
)


def draw(rng: Random) -> Case:
    """Draw what one file holds at two looks, and what is known of the band."""
    return {
        "texts": [mutate.as_bytes(_text(rng)) for _ in range(2)],
        "kind": places.kind(rng),
        "width": rng.choice((0.0, 0.04, 0.5)),
        "unit": rng.choice((None, "nats", "initial")),
        "initial": rng.choice((None, None, 0.0, 1.3, 5e-324)),
    }


def _text(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        return schedule_strings.draw(rng)
    if kind < 0.36:
        return "a: &a [x, x]\nb: &b [*a, *a]\nschedule: " + rng.choice(("*b", "*a", "&c [*c]", noise.nested(rng)))
    written = mutate.as_json(rng, mutate.changed(rng, rng.choice(_MAPPINGS), most=2))
    return mutate.edited(rng, written, most=2) if rng.random() < 0.3 else written


def try_case(case: Case) -> Outcome:
    """Look at a file twice, with other content the second time; say whether the first was followed."""
    with places.folder() as folder:
        steering = SteeringFile(folder / "steering.yaml", case["width"], case["unit"])
        steering.initial_entropy = case["initial"]
        found = []
        for text in case["texts"]:
            steering.path.unlink(missing_ok=True) if not steering.path.is_dir() else steering.path.rmdir()
            places.put(steering.path, text, case["kind"])
            before = steering.accepted, steering.refused
            band, messages = _poll(steering)
            found.append(band)
            accepted, refused = steering.accepted - before[0], steering.refused - before[1]
            expect(accepted == (band is not None), f"{accepted} counted as accepted, got {band!r:.200}")
            expect(refused == len(messages) and accepted + refused <= 1, f"{refused} refused, {messages!r:.300}")
            expect(all(len(each) <= 2000 and "\n" not in each for each in messages), f"warns of {messages!r:.300}")
            if band is not None:
                _check_band(band)
    return "accepted" if found[0] is not None else "refused"


def _poll(steering: SteeringFile) -> tuple[Band | None, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        band = steering.poll()
        assert steering.poll() is None or steering.path.is_dir()  # nothing new
    return band, [str(warning.message) for warning in caught]


def _check_band(band: Band) -> None:
    """Refuse a band that is upside down, or another one after it was written and read."""
    for lower, upper in band.values(20):
        expect(lower <= upper, f"{band!r:.300} is upside down: {lower} and {upper}")
    again = parse_steering(format_steering(band), width=9.0)
    expect(again == band, f"{band!r:.300} written and read again is {again!r:.300}")


TARGET = Target("steering_files", draw, try_case)
