"""The gate before release: two model versions on a frozen set, and a verdict by rules that can be edited."""

from inspection_models.gate.answers import Answer, ComparedModel, GoldenImage, answers_of
from inspection_models.gate.comparison import Comparison, compare
from inspection_models.gate.errors import GateError
from inspection_models.gate.explanations import Evidence, ExplanationComparison, compare_explanations
from inspection_models.gate.golden import Contender, GoldenSet, choose_golden
from inspection_models.gate.outcomes import RuleOutcome
from inspection_models.gate.rules import Rules, RulesError, default_rules, parse_rules, read_rules
from inspection_models.gate.verdict import GateVerdict, judge

__all__ = [
    "Answer",
    "ComparedModel",
    "Comparison",
    "Contender",
    "Evidence",
    "ExplanationComparison",
    "GateError",
    "GateVerdict",
    "GoldenImage",
    "GoldenSet",
    "RuleOutcome",
    "Rules",
    "RulesError",
    "answers_of",
    "choose_golden",
    "compare",
    "compare_explanations",
    "default_rules",
    "judge",
    "parse_rules",
    "read_rules",
]
