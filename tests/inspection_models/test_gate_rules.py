"""The rules file: what it may say, and how its mistakes are named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection_models.gate import RulesError, default_rules, parse_rules, read_rules
from inspection_models.gate.rules import FLAGS, SHARES


def test_the_products_own_rules_can_be_read_and_edited(tmp_path: Path) -> None:
    rules = parse_rules(default_rules(), "rules.toml")
    assert rules.confidence == 0.95
    assert rules.limits["escapes.at_most"] == 0.02
    assert rules.flags == FLAGS
    assert (rules.data_sha256, rules.never_escape) == (None, ())
    path = tmp_path / "mine.toml"
    path.write_text(
        default_rules().replace('# never = ["crack"]', 'never = ["crack"]').replace("at_most = 0.02", "at_most = 0")
    )
    mine = read_rules(path)
    assert mine.never_escape == ("crack",)
    assert mine.limits["escapes.at_most"] == 0
    assert mine.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_rule_that_there_is_stands_in_the_products_own_file() -> None:
    text = default_rules()
    for key in (*SHARES, *FLAGS, "data.sha256", "escapes.never"):
        table, _, name = key.partition(".")
        section = text.split(f"[{table}]")[1].split("\n[")[0]
        assert any(line.lstrip("# ").startswith(f"{name} =") for line in section.splitlines()), key


def test_what_is_left_out_is_not_asked() -> None:
    rules = parse_rules("[data]\nunseen = false\n[overkill]\nat_most = 0.1\n", "r")
    assert rules.limits == {"overkill.at_most": 0.1}
    assert rules.flags == ()
    assert parse_rules("\ufeffconfidence = 0.9\noverkill.at_most = 1\n", "r").confidence == 0.9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no limit in it"),
        ("confidence = 0.9", "no limit in it"),
        ("[escapes]\nat_most = ", "is not TOML"),
        ("[escapes\n", "is not TOML"),
        ("[escapes]\nat_most = 0.1\nat_most = 0.2\n", "is not TOML"),
        ("# x\n[escape]\nat_most = 0.1\n", "line 2: there is no 'escape'"),
        ("at_most = 0.1\n", "line 1: there is no 'at_most'"),
        ("\n[escapes]\n\natmost = 0.1\n", "line 4: there is no rule 'atmost' in [escapes]; there are never, at_most"),
        ("escapes = 0.1\n", "line 1: escapes is a table"),
        ("escapes.atmost = 0.1\n", "line 1: there is no rule 'atmost'"),
        ("[[escapes]]\nat_most = 0.1\n", "line 1: escapes is a table"),
        ("[overkill]\nat_most = 0.1\n[escapes]\nat_most = 2\n", "line 4: escapes.at_most is 2; it is a share"),
        ("[escapes]\nat_most = -0.1\n", "must lie from 0 to 1"),
        ("[escapes]\nat_most = nan\n", "must lie from 0 to 1"),
        ("[escapes]\nat_most = inf\n", "must lie from 0 to 1"),
        ("[escapes]\nat_most = true\n", "line 2: escapes.at_most is true; it must be a number"),
        ('[escapes]\nat_most = "0.1"\n', "it must be a number"),
        ("[escapes]\nat_most = {a = 1}\n", "it must be a number"),
        ("confidence = 95\n[escapes]\nat_most = 0.1\n", "line 1: confidence is 95; it must lie from 0.5 to below 1"),
        ("confidence = 1.0\n[escapes]\nat_most = 0.1\n", "from 0.5 to below 1"),
        ("[escapes]\nat_most = 0.1\nnever = 'crack'\n", "line 3: escapes.never is 'crack'; it must be a list"),
        ("[escapes]\nat_most = 0.1\nnever = []\n", "must be a list"),
        ("[data]\nunseen = 1\n[escapes]\nat_most = 0.1\n", "line 2: data.unseen is 1; it must be true or false"),
        ("[data]\nsha256 = 'abc'\n[escapes]\nat_most = 0.1\n", "line 2: data.sha256 is 'abc'; it must be the 64"),
    ],
)
def test_mistakes_are_named_with_their_line(text: str, says: str) -> None:
    with pytest.raises(RulesError) as raised:
        parse_rules(text, "mine.toml")
    assert str(raised.value).startswith("mine.toml")
    assert says in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"none\.toml: cannot be read"):
        read_rules(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(RulesError, match="not UTF-8"):
        read_rules(tmp_path / "latin.toml")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        parse_rules(text, "mine.toml")
    except RulesError as error:
        assert str(error).startswith("mine.toml")
