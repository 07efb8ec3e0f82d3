"""Callers have the scopes they name, those included in them, and no others."""

from itertools import chain, combinations

import pytest

from app.domain.callers import EVERY_SCOPE, Caller, Scope, with_implied_scopes
from app.domain.errors import Forbidden


def test_a_write_scope_includes_only_its_read_scope() -> None:
    assert with_implied_scopes([Scope.JOBS_WRITE]) == {Scope.JOBS_WRITE, Scope.JOBS_READ}
    assert with_implied_scopes([Scope.HIERARCHIES_WRITE]) == {
        Scope.HIERARCHIES_WRITE,
        Scope.HIERARCHIES_READ,
    }
    assert with_implied_scopes([Scope.JOBS_READ]) == {Scope.JOBS_READ}
    assert with_implied_scopes([]) == frozenset()


@pytest.mark.parametrize(
    "scopes", list(chain.from_iterable(combinations(Scope, number) for number in range(5)))
)
def test_a_caller_is_refused_exactly_the_missing_scopes(scopes: tuple[Scope, ...]) -> None:
    caller = Caller("plants", scopes=frozenset(scopes))
    caller.check(*scopes)
    missing = EVERY_SCOPE - frozenset(scopes)
    for scope in missing:
        with pytest.raises(Forbidden, match=scope):
            caller.check(*scopes, scope)
    if missing:
        with pytest.raises(Forbidden) as refused:
            caller.check(*Scope)
        assert all(scope in str(refused.value) for scope in missing)
        assert not any(scope in str(refused.value) for scope in scopes)
