"""Fingerprints: the same for what computes the same by the same steps, another for all else."""

from __future__ import annotations

import ast
import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.dropin.editions import EDITIONS
from fastconv.dropin.fingerprint import fingerprint
from fastconv.dropin.source import CORE, Book, Library

from .conftest import BOOK


def meaning(name):
    return {"np": "import numpy", "numpy": "import numpy"}.get(name, f"global {name}")


def of(text, **options):
    return fingerprint(ast.parse(text).body[0], meaning, **options)


PLAIN = """
def fold(col, shape, stride=1):
    total = np.zeros(shape)
    for i, part in enumerate(col):
        if part is not None and i not in (3, 4):
            total[i * stride] += part * 1e-7
    return total, [value for row in total for value in row if value > 0.5]
"""

SAME = {
    "names of local variables": """
def fold(col, shape, stride=1):
    out = np.zeros(shape)
    for k, c in enumerate(col):
        if c is not None and k not in (3, 4):
            out[k * stride] += c * 1e-7
    return out, [a for b in out for a in b if a > 0.5]
""",
    "comments, docstrings, annotations, layout": '''
def fold(
    col: list, shape: tuple[int, int],
    stride: int = 1,  # how far
) -> tuple:
    """Fold."""
    total: np.ndarray = np.zeros(shape)
    for i, part in enumerate(col):
        "each part"
        pass
        if (part is not None) and (i not in (3, 4)): total[i*stride] += part*1e-7
    return (total, [value for row in total for value in row if value > .5])
''',
    "spelling of numbers, of negations, of the module, and the name of the function": """
def col2im(col, shape, stride=1):
    total = numpy.zeros(shape)
    for i, part in enumerate(col):
        if not part is None and not i in (0x3, 4):
            total[i * stride] += part * 0.0000001
    return total, [value for row in total for value in row if value > 5e-1]
""",
}


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_matter(what):
    assert of(SAME[what]) == of(PLAIN)


OTHER = {
    "another name of a parameter": PLAIN.replace("stride", "step"),
    "another default": PLAIN.replace("stride=1", "stride=2"),
    "another number": PLAIN.replace("1e-7", "1e-6"),
    "an integer for a float": PLAIN.replace("0.5", "0"),
    "another function": PLAIN.replace("np.zeros", "np.ones"),
    "another module": PLAIN.replace("np.", "cp."),
    "another operator": PLAIN.replace("i * stride", "i + stride"),
    "another comparison": PLAIN.replace("> 0.5", ">= 0.5"),
    "and for or": PLAIN.replace(" and ", " or "),
    "the other variable": PLAIN.replace("[i * stride]", "[i * part]"),
    "another order": PLAIN.replace("for row in total for value in row", "for value in total"),
    "a statement more": PLAIN.replace("    return", "    print(total)\n    return"),
    "a decorator": "@cache" + PLAIN,
    "a coroutine": PLAIN.replace("def fold", "async def fold"),
    "assignment for addition": PLAIN.replace("+=", "="),
}


@pytest.mark.parametrize("what", OTHER)
def test_what_matters(what):
    assert ast.dump(ast.parse(OTHER[what])) != ast.dump(ast.parse(PLAIN))
    assert of(OTHER[what]) != of(PLAIN)


def test_the_first_parameter_of_a_method():
    text = "def forward(self, x):\n    self.x = x\n    return x"
    other = "def forward(me, x):\n    me.x = x\n    return x"
    assert of(text, method=True) == of(other, method=True)
    assert of(text) != of(other)


def test_a_function_that_calls_itself():
    text = "def f(n):\n    return n * f(n - 1)"
    assert of(text, name="f") == of(text.replace("f(", "g("), name="g")
    assert of(text, name="f") != of(text.replace(" f(", " g("), name="f")


def test_messages_of_assertions():
    text = "def f(x):\n    assert x.ndim == 4, 'no images'\n    return x"
    assert of(text) == of(text.replace("no images", "{x.ndim} axes").replace("'{", "f'{"))
    assert of(text) == of(text.replace(", 'no images'", ""))
    assert of(text) != of(text.replace("4", "3"))
    assert of(text) != of(text.replace("    assert x.ndim == 4, 'no images'\n", ""))


def test_a_definition_too_deep_to_be_read_has_no_fingerprint():
    """Python runs it: a sum of 2,000 terms is one node in the other."""
    text = "def f(x):\n    xp = get_array_module(x)\n    return " + " + ".join(["x"] * 2000)
    exec(compile(text, "deep", "exec"), {})
    assert of(text) == of(text, on_numpy=True) == ""
    assert of(text, on_numpy=True) != of(text.replace(" + x" * 1900, ""), on_numpy=True)


def test_names_that_only_look_alike():
    """A variable of a comprehension, of a lambda or of a function inside is another one."""
    texts = [
        "def f(x):\n    y = 1\n    return [y for y in x], y",
        "def f(x):\n    y = 1\n    return [y for z in x], y",
        "def f(x):\n    y = 1\n    return [z for z in x], 1",
        "def f(x):\n    y = 1\n    return (lambda y: y), y",
        "def f(x):\n    y = 1\n    return (lambda z: y), y",
        "def f(x):\n    global y\n    y = 1\n    return [y for z in x], y",
    ]
    assert len({of(text) for text in texts}) == len(texts)
    same = "def f(x):\n    a = 1\n    return [b for b in x], a"
    assert of(same) == of(texts[0])


def test_written_down_for_every_version_of_python():
    """The words do not depend on how a version of Python builds its trees: these are fixed."""
    assert of(PLAIN) == "82aaa84e73381c9ed82b"
    text = 'def f(x, *a, k=1, **o):\n    return f"{x!r:>{k}} {a}", {**o}, lambda q: -q'
    assert of(text) == "69bdf960765c59eadd65"
    assert of(CHOICE, on_numpy=True) == "62f2384468fafaf5548b"


# ---- what asks its arrays whether they are NumPy's or CuPy's -------------------------------------

CHOICE = """
def fold(col, pad):
    n, c, h, w = col.shape
    xp = cuda.get_array_module(col)
    if xp != np:
        img = on_gpu(col)
    else:
        img = xp.zeros((n, c, h + 2 * pad, w))
        img += xp.random.rand(n)
    return xp.swapaxes(img, 2, 3)
"""
ALONE = """
def fold(col, pad):
    n, c, h, w = col.shape
    img = np.zeros((n, c, h + 2 * pad, w))
    img += np.random.rand(n)
    return np.swapaxes(img, 2, 3)
"""
ASKED = "cuda.get_array_module(col)"

SAME_ON_NUMPY = {
    "NumPy alone": ALONE,
    "another name": CHOICE.replace("xp", "module"),
    "asked directly": CHOICE.replace("cuda.get", "get"),
    "an annotation": CHOICE.replace("xp =", "xp: Any ="),
    "nothing for CuPy": ALONE.replace("    img", f"    xp = {ASKED}\n    img", 1),
    "other work for CuPy": CHOICE.replace("on_gpu(col)", "print(col)"),
}


@pytest.mark.parametrize("what", SAME_ON_NUMPY)
def test_what_does_not_matter_on_numpy(what):
    text = SAME_ON_NUMPY[what]
    assert text != CHOICE
    assert of(text, on_numpy=True) == of(CHOICE, on_numpy=True) == of(ALONE)
    assert of(CHOICE) != of(ALONE)  # if it is not asked for


OTHER_ON_NUMPY = {
    "another module": CHOICE.replace(ASKED, "mine"),
    "another function": CHOICE.replace(ASKED, "cuda.mine(col)"),
    "of what is computed": CHOICE.replace(ASKED, "cuda.get_array_module(print(col))"),
    "of what is computed besides": CHOICE.replace("module(col)", "module(col, key=print(col))"),
    "of a computed module": CHOICE.replace("cuda.get", "print(cuda).get"),
    "and something else": CHOICE.replace(ASKED, f"{ASKED}, print(col)"),
    "in some case": CHOICE.replace(ASKED, f"{ASKED} if pad else mine"),
    "also called otherwise": CHOICE.replace("xp =", "xp = module ="),
    "then another": CHOICE.replace("    if", "    xp = mine\n    if"),
    "a module of the file's": CHOICE.replace(f"    xp = {ASKED}\n", ""),
    "a parameter": CHOICE.replace(f"    xp = {ASKED}\n", "").replace("pad)", "pad, xp=np)"),
    "the other way round": CHOICE.replace("xp != np", "xp == np"),
    "another comparison": CHOICE.replace("xp != np", "mine != np"),
    "other work on NumPy": CHOICE.replace("xp.zeros", "xp.ones"),
    "more work on NumPy": CHOICE.replace("        img +=", "        print(img)\n        img +="),
}


@pytest.mark.parametrize("what", OTHER_ON_NUMPY)
def test_what_matters_on_numpy(what):
    text = OTHER_ON_NUMPY[what]
    assert text != CHOICE
    assert of(text, on_numpy=True) != of(CHOICE, on_numpy=True)


# ---- mutations of definitions as the book has them ---------------------------------------------


def definitions():
    """The functions and methods of the stand-in for the book."""
    for path in sorted((BOOK / "common").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield node


DEFINITIONS = list(definitions())

OPERATORS = [ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Pow, ast.MatMult]
COMPARISONS = [ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.Is, ast.IsNot]


def places(node):
    """What can be mutated in a definition: constants, operators, attributes, keywords, names."""
    documentation = {
        id(inner.value)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant)
    }
    kinds = ast.Constant | ast.BinOp | ast.AugAssign | ast.Compare | ast.Attribute | ast.keyword
    return [
        number
        for number, inner in enumerate(ast.walk(node))
        if (isinstance(inner, kinds) and id(inner) not in documentation)
        or (isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub))
    ]


def mutate(node, number, draw):
    inner = list(ast.walk(node))[number]
    if isinstance(inner, ast.Constant):
        value = inner.value
        if isinstance(value, bool) or value is None:
            inner.value = "other"
        elif isinstance(value, str):
            inner.value = value + "_"
        else:
            inner.value = draw.choice([value + 1, value * 2 + 1, -value - 1, float(value) + 0.5])
    elif isinstance(inner, ast.BinOp | ast.AugAssign):
        inner.op = draw.choice([op for op in OPERATORS if not isinstance(inner.op, op)])()
    elif isinstance(inner, ast.Compare):
        inner.ops[0] = draw.choice([op for op in COMPARISONS if not isinstance(inner.ops[0], op)])()
    elif isinstance(inner, ast.Attribute):
        inner.attr += "_"
    elif isinstance(inner, ast.keyword):
        inner.arg = f"{inner.arg}_"
    else:
        inner.op = ast.UAdd()


@given(st.sampled_from(DEFINITIONS), st.integers(0, 10**6), st.integers(0, 10**6))
def test_every_mutation_shows(definition, which, seed):
    choices = places(definition)
    if not choices:
        return
    changed = copy.deepcopy(definition)
    mutate(changed, choices[which % len(choices)], random.Random(seed))
    assert fingerprint(changed, meaning) != fingerprint(definition, meaning)


@given(st.sampled_from(DEFINITIONS), st.integers(0, 10**6))
def test_no_other_names_of_local_variables_show(definition, seed):
    changed = copy.deepcopy(definition)
    parameters = {
        argument.arg for argument in ast.walk(changed.args) if isinstance(argument, ast.arg)
    }
    stored = {
        inner.id
        for inner in ast.walk(changed)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
    } - parameters
    for inner in ast.walk(changed):
        if isinstance(inner, ast.Name) and inner.id in stored:
            inner.id = f"{inner.id}_{seed}"
    # Through text, as a reader would write it.
    again = ast.parse(ast.unparse(changed)).body[0]
    assert fingerprint(again, meaning) == fingerprint(definition, meaning)


# ---- the table ------------------------------------------------------------------------------


def test_the_table_is_well_formed():
    for definitions in EDITIONS.values():
        for name, parts in definitions.items():
            assert parts[CORE], name
            if name[0].isupper():
                assert "__init__" in parts and len(parts) > 2, name
            for values in parts.values():
                for value, date in values.items():
                    assert len(value) == 20 and int(value, 16) >= 0
                    assert date == "stand-in" or "2016-07-07" <= date < "2100"
                assert list(values.values()) == sorted(values.values())


def test_the_stand_in_is_in_the_table():
    """If this fails, the stand-in has changed: run ``python -m fastconv.dropin.make_editions``."""
    library = Library(lambda name: BOOK.joinpath(*name.split(".")).with_suffix(".py"))
    book = Book()
    for name, home in book.homes.items():
        source = library.module(home)
        if name in source.definitions:  # one is another name of another
            match = source.match(name)
            assert match is not None, name
            assert match.own == ()
