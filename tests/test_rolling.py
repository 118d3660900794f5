"""Rolling: straight lines become loops, and compute what they did."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrograd_scratch.compiler.rolling import SAVED, TURNS, Line, Rolling, names_in, renamed
from micrograd_scratch.compiler.source import _rolled


def rolled(*texts, **options):
    """The lines of texts that share names, in loops; and the names that are indexed now."""
    rolling = Rolling(derivatives=True)
    found = [rolling.find([Line(code) for code in text], **options) for text in texts]
    written = [[line.code for line in rolling.text(some)] for some in found]
    return written[0] if len(texts) == 1 else written


def recurrence(turns, first=1):
    """h_1 is given; then turns of z_n = 2 * h_n + x[n]; h_(n+1) = z_n % 7."""
    lines = []
    for n in range(first, first + turns):
        lines += [f"z_{n} = 2 * h_{n} + x[{n}]", f"h_{n + 1} = z_{n} % 7"]
    return lines


# ---------------------------------------------------------------- what becomes a loop
def test_a_recurrence_is_a_loop_that_reads_the_turn_before():
    assert rolled(["h_1 = 5", *recurrence(9), "y = h_10"]) == [
        "h_2[0] = 5",
        "for t in range(1, 10):",
        "    z_1[t] = 2 * h_2[t - 1] + x[t]",
        "    h_2[t] = z_1[t] % 7",
        "y = h_2[9]",
    ]


def test_derivatives_have_the_index_of_what_they_are_of():
    back = []
    for n in range(9, 0, -1):
        back += [f"dz_{n} = dh_{n + 1} * 3", f"dh_{n} = dz_{n} * 2"]
    forward, backward = rolled(recurrence(9), ["dh_10 = 1", *back, "g = dh_1"])
    assert forward[1:] == ["    z_1[t] = 2 * h_2[t - 1] + x[t]", "    h_2[t] = z_1[t] % 7"]
    assert backward == [
        "dh_2[9] = 1",
        "for t in reversed(range(1, 10)):",
        "    dz_1[t] = dh_2[t] * 3",
        "    dh_2[t - 1] = dz_1[t] * 2",
        "g = dh_2[0]",
    ]


def test_numbers_may_advance_by_any_step():
    lines = [
        f"s_{n} = x[{3 * n}:{3 * n + 3}] + y[{40 - 2 * n}] + z[{20 - n}]" for n in range(2, 12)
    ]
    assert rolled(lines) == [
        "for t in range(1, 11):",
        "    s_2[t] = x[3 * t + 3:3 * t + 6] + y[-2 * t + 38] + z[19 - t]",
    ]
    assert rolled([f"a_{n} = {n} * b" for n in range(1, 11)])[1] == "    a_1[t] = t * b"
    assert rolled([f"a_{n} = {n + 1} * b" for n in range(9)])[1] == "    a_0[t] = t * b"
    assert rolled([f"a_{n} = f({n + 2} - b)" for n in range(9)])[1] == "    a_0[t] = f((t + 1) - b)"
    assert rolled([f"a_{n} = f(b - {n + 2})" for n in range(9)])[1] == "    a_0[t] = f(b - (t + 1))"


def test_names_may_go_in_two_directions():
    """A decoder that starts at the last state and reads the states backwards."""
    lines = [f"a_{n} = f(b_{n + 6}, b_{30 - n})" for n in range(9)]
    assert rolled(lines)[1] == "    a_0[t] = f(b_6[t], b_6[26 - t])"
    lines = [f"a_{n} = f(b_{70 + 2 * n}, b_{70 - 3 * n})" for n in range(12)]
    assert rolled(lines)[0] == lines[0]  # b_70 cannot be in both
    assert rolled(lines)[2] == "    a_1[t] = f(b_72[t], b_67[t])"


def test_what_does_not_fit_at_an_end_is_left_out():
    """The first turn would read an index below 0: where it lies was said by another loop."""
    found = rolled(recurrence(9, first=5), [f"u_{n} = h_{n}" for n in range(4, 15)])
    assert found[0][0] == "for t in range(1, 10):"
    assert found[1] == ["u_4 = h_4", "for t in range(1, 11):", "    u_5[t] = h_6[t - 1]"]


def test_a_turn_ends_with_the_repetition_if_it_shall():
    lines = ["h_2 = 1", *recurrence(9, first=2)][:-1]  # ends within a turn
    assert rolled(lines)[1] == "for t in range(1, 9):"
    assert rolled(lines)[2].startswith("    z_2[t] =") and rolled(lines)[-1].startswith("z_10 =")
    at_end = rolled(lines, at_end=True)
    assert at_end[1].startswith("z_3[0] =") and at_end[-1].startswith("    z_3[t] =")


def test_a_turn_begins_at_a_comment():
    lines = []
    for n in range(1, 9):
        lines += [f"b_{n} = a_{n} + 1", "# next", f"a_{n + 1} = b_{n} * 2"]
    assert rolled(["a_1 = 0", *lines])[2:4] == ["for t in range(1, 8):", "    # next"]


def test_two_loops_of_a_text_and_what_is_between():
    sums = [f"s_{n + 1} = s_{n} + h_{n + 1}" for n in range(9)]
    found = rolled([*recurrence(9), "s_0 = 0", *sums])
    assert found[0] == "for t in range(1, 10):" and found[3] == "s_1[0] = 0"
    assert found[4:] == ["for t in range(1, 10):", "    s_1[t] = s_1[t - 1] + h_2[t - 1]"]


# ---------------------------------------------------------------- what stays as it is
@pytest.mark.parametrize(
    "lines",
    [
        recurrence(TURNS - 1),
        [f"a_{n} = {n * n}" for n in range(20)],  # not evenly
        [f"a_{n} = b * 0.{n + 1}" for n in range(9)],  # part of a number
        [f"a_{n} = b * 1e-0{n + 1}" for n in range(9)],
        [f"a_{n} = b * 1e-{n + 10}" for n in range(9)],
        [f"a_{n} = b * 1e+{n + 16}" for n in range(9)],
        [f"# a_{n} is" for n in range(20)],  # a comment
        [f"a_{n} = log{n + 1}(b)" for n in range(12)],  # two of them are NumPy's
        [f"a_{n} = b['x{n}']" for n in range(9)],  # part of a text
        [f'a_{n} = b["x{n}"]' for n in range(9)],
        [f"a_{n} = W{n}b{n}" for n in range(9)],  # two numbers in a name
        [f"a_{n} = W{n}b" for n in range(9)],  # not at its end
        [f"a_{n} = b{'0' * n}" for n in range(9)],
    ],
)
def test_what_does_not_advance_evenly_stays(lines):
    assert rolled(lines) == lines


def test_loops_that_would_index_a_name_in_two_ways_are_not_made():
    every_other = [f"u_{n} = h_{2 * n}" for n in range(1, 10)]
    found = rolled([*recurrence(20), *every_other])
    assert found[3:] == [f"u_{n} = h_2[{2 * n - 1}]" for n in range(1, 10)]


def test_a_loop_over_names_of_two_families_is_not_made():
    low, high = ([f"a_{n} = {what}" for n in range(k, k + 9)] for k, what in ((1, "x"), (20, "y")))
    both = [f"u_{n} = a_{n}" for n in range(5, 25)]
    found = rolled(low, high, both)
    assert found[0][1] == "    a_1[t] = x" and found[1][1] == "    a_20[t] = y"
    # up to a_19 nothing but the first family is read; a_20 is in another
    assert found[2][-1] == "u_24 = a_20[5]" and found[2][0] == "u_5 = a_1[5]"


def test_it_needs_to_save_something():
    lines = [f"a_{n} = b" for n in range(SAVED)]
    assert rolled(lines) == lines
    assert len(rolled(lines, least=TURNS)) == 2


def test_names_that_two_functions_make_are_no_family():
    """Each of the two would have a list of its own."""
    texts = {"forward": [f"f(a_{n})" for n in range(1, 20)]}
    for at, loops in ((1, False), (20, True)):
        makers = {f"a_{n}": "parameters" if n == at else "buffers" for n in range(1, 21)}
        _, written = _rolled(texts, makers)
        assert (written["forward"][0] == "for t in range(1, 20):") == loops
        assert loops or written == texts


def test_texts_are_left_alone():
    found = rolled([*recurrence(9), "y = f(h_10, 'h_10', \"z_9\")"])
    assert found[-1] == "y = f(h_2[9], 'h_10', \"z_9\")"


def test_lines_with_another_comment_are_not_alike():
    rolling = Rolling()
    lines = [Line(f"a_{n} = b", f"{'odd' if n % 2 else 'even'}") for n in range(20)]
    (loop,) = rolling.find(lines).loops
    assert loop.period == 2


# ---------------------------------------------------------------- that they compute the same
@st.composite
def programs(draw):
    """Straight lines in which some stretches repeat: (text, a text for what is computed last)."""
    rng = random.Random(draw(st.integers(0, 10**6)))
    lines, made = ["v_1 = 3", "v_2 = 4"], 2
    for _ in range(draw(st.integers(1, 3))):
        period, turns = draw(st.integers(1, 4)), draw(st.integers(1, 9))
        body = []
        for _ in range(period):
            far = min(made, draw(st.integers(1, 6)))
            kind = rng.choice(
                ["v_{a} + 1", "v_{a} * {k} + v_{b}", "2 * v_{a} - x[{k}]", "v_2 + v_{a}"]
            )
            body.append((kind, far, rng.randint(1, max(1, made)), rng.randint(0, 3)))
        start = made
        for turn in range(turns):
            for position, (kind, far, other, advance) in enumerate(body):
                made += 1
                a, b = made - far, made - min(other, start + position)
                k = 5 + advance * turn
                lines.append(f"v_{made} = ({kind.format(a=a, b=b, k=k)}) % 1009")
        if draw(st.booleans()):
            made += 1
            lines.append(f"v_{made} = -v_{made - 1}")
    return lines, made


@settings(max_examples=300, deadline=None)
@given(programs(), st.booleans())
def test_loops_compute_what_straight_lines_do(program, at_end):
    lines, made = program
    x = list(range(100, 200))
    straight: dict = {"x": x}
    exec("\n".join(lines), straight)
    rolling = Rolling()
    found = rolling.find([Line(code) for code in lines], at_end, least=4)
    looped: dict = {"x": x} | {name: [None] * size for name, size in rolling.sizes().items()}
    exec("\n".join(line.code for line in rolling.text(found)), looped)
    for n in range(1, made + 1):
        got = eval(rolling.name(f"v_{n}"), looped)
        assert got == straight[f"v_{n}"]
    assert (
        rolling.collected({f"v_{n}": n for n in range(1, made + 1)}).keys()
        >= rolling.families.keys()
    )


def test_a_name_has_the_place_of_its_derivative():
    rolling, turns = Rolling(derivatives=True), range(2, 14)
    first = [Line("z_1 = x"), Line("h_1 = f(z_1)")]
    lines = [line for i in turns for line in (f"z_{i} = w * h_{i - 1}", f"h_{i} = f(z_{i})")]
    ahead = rolling.find([*first, *map(Line, lines)], at_end=True)
    back = [line for i in turns for line in (f"dz_{i} = s * dh_{i}", f"dh_{i - 1} = w * dz_{i}")]
    rolling.find([*map(Line, back), Line("dz_1 = s * dh_1")])
    rolling.find([Line(f"dx[{i}] += dz_{i}") for i in range(1, 14)])
    assert rolling.name("z_1") == "z_1" and rolling.name("dz_1") == "dz_2[0]"
    rolling.complete(["z_1", "h_1", "x"])
    assert [line.code for line in rolling.text(ahead)][:2] == ["z_2[0] = x", "h_2[0] = f(z_2[0])"]


def test_attributes_and_texts_are_no_names():
    code = "T = einsum('T', a.T, T) * 1e5"
    assert names_in(code) == ["T", "einsum", "a", "T"]
    assert renamed(code, {"T": "b", "e5": "c"}) == "b = einsum('T', a.T, b) * 1e5"
