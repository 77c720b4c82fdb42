"""Symbolic arithmetic on names, to print a formula that is written as Python code."""

from __future__ import annotations

from dataclasses import dataclass

_ADD, _MULTIPLY, _POWER, _ATOM = range(4)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name, or an arithmetic expression of names.

    Examples
    --------
    >>> nir, red = Symbol("nir"), Symbol("red")
    >>> str(2.5 * (nir - red) / (nir + red) ** 0.5)
    '2.5 * (nir - red) / (nir + red) ** 0.5'
    """

    text: str
    """The expression as text."""
    rank: int = _ATOM
    """Precedence of its outermost operator: 0 for sums, 1 for products, 2 for powers, 3 for names."""

    def __str__(self) -> str:
        return self.text

    def __add__(self, other: Symbol | float) -> Symbol:
        return _binary_expression(self, "+", other, _ADD)

    def __radd__(self, other: float) -> Symbol:
        return _binary_expression(other, "+", self, _ADD)

    def __sub__(self, other: Symbol | float) -> Symbol:
        return _binary_expression(self, "-", other, _ADD)

    def __rsub__(self, other: float) -> Symbol:
        return _binary_expression(other, "-", self, _ADD)

    def __mul__(self, other: Symbol | float) -> Symbol:
        return _binary_expression(self, "*", other, _MULTIPLY)

    def __rmul__(self, other: float) -> Symbol:
        return _binary_expression(other, "*", self, _MULTIPLY)

    def __truediv__(self, other: Symbol | float) -> Symbol:
        return _binary_expression(self, "/", other, _MULTIPLY)

    def __rtruediv__(self, other: float) -> Symbol:
        return _binary_expression(other, "/", self, _MULTIPLY)

    def __pow__(self, other: float) -> Symbol:
        return _binary_expression(self, "**", other, _POWER)


def _binary_expression(left: Symbol | float, sign: str, right: Symbol | float, rank: int) -> Symbol:
    """Return a binary expression, with parentheses where left-to-right evaluation would regroup its operands."""
    operands = [side if isinstance(side, Symbol) else Symbol(f"{side:g}") for side in (left, right)]
    parenthesized = (operands[0].rank < rank, operands[1].rank <= rank)
    texts = [f"({side.text})" if needed else side.text for side, needed in zip(operands, parenthesized, strict=True)]
    return Symbol(f"{texts[0]} {sign} {texts[1]}", rank)
