"""The kinds of expectations, by the name that a script gives them."""

from typing import Final

from .count_expectations import (
    DeadLettersExpected,
    DigestExpected,
    DroppedExpected,
    RestartsExpected,
    RestoresExpected,
    UpdatesExpected,
)
from .expectation import Expectation
from .topic_expectations import (
    NUMBERS,
    NumberExpected,
    SilenceExpected,
    StatusExpected,
)

EXPECTATIONS: Final[dict[str, type[Expectation]]] = {
    "status": StatusExpected,
    **dict.fromkeys(NUMBERS, NumberExpected),
    "silent": SilenceExpected,
    "updates": UpdatesExpected,
    "dropped": DroppedExpected,
    "restarts": RestartsExpected,
    "dead_letters": DeadLettersExpected,
    "restores": RestoresExpected,
    "digest": DigestExpected,
}
