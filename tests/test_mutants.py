"""The page about mutants: counts, and an explanation for each that tests do not find."""

from scripts.mutants import (
    PAGE,
    Explanation,
    Mutant,
    changed_line,
    explanations,
    mutants,
    render,
    unexplained,
)

RESULTS = """
    pixelrobust.store.xǁRowStoreǁrows__mutmut_22: survived
    pixelrobust.store.x__digest__mutmut_1: killed
    pixelrobust.statistics.x_wilson_interval__mutmut_3: timeout
    pixelrobust.statistics.x_wilson_interval__mutmut_4: no tests
"""
DIFFERENCE = """--- pixelrobust/store.py
+++ pixelrobust/store.py
@@ -1,2 +1,2 @@
 def rows():
-    a = 1
+    a = 2
"""
FOUND = [
    Mutant("pixelrobust.store.xǁRowStoreǁrows__mutmut_22", "store.RowStore.rows", "survived"),
    Mutant("pixelrobust.store.x__digest__mutmut_1", "store._digest", "killed"),
    Mutant(
        "pixelrobust.statistics.x_wilson_interval__mutmut_3",
        "statistics.wilson_interval",
        "timeout",
    ),
    Mutant(
        "pixelrobust.statistics.x_wilson_interval__mutmut_4",
        "statistics.wilson_interval",
        "no tests",
    ),
]


def test_results_are_understood() -> None:
    assert mutants(RESULTS) == FOUND
    assert changed_line(DIFFERENCE) == "a = 2"


def test_what_tests_do_not_find_must_be_explained() -> None:
    left = {("store.RowStore.rows", "a = 2"), ("statistics.wilson_interval", "b = 3")}
    one = Explanation("store.RowStore.rows", ("a = 2",), "No reason.")
    stale = Explanation("store.RowStore.rows", ("a = 2", "a = 4"), "No reason.")
    assert unexplained(left, [one]) == ["tests do not find statistics.wilson_interval: b = 3"]
    assert unexplained({("store.RowStore.rows", "a = 2")}, [stale]) == [
        "scripts/mutants.toml explains what tests find: store.RowStore.rows: a = 4"
    ]
    page = render(FOUND, [one], 7)
    assert "| `pixelrobust/statistics.py` | 2 | 1 | 1 |" in page
    assert "| `pixelrobust/store.py` | 2 | 1 | 1 |" in page
    assert "`RowStore.rows` in store.py: No reason." in page


def test_the_committed_page_has_the_committed_explanations() -> None:
    text = PAGE.read_text(encoding="utf-8")
    counts = [line.split("|")[4] for line in text.splitlines() if line.startswith("| `pixelrobust")]
    for explanation in explanations():
        assert explanation.why in text
        assert all(line in text for line in explanation.becomes)
    assert sum(map(int, counts)) >= sum(len(one.becomes) for one in explanations())
