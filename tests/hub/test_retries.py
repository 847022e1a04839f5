import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from agssp import InputError
from agssp.hub.errors import hub_errors
from agssp.hub.retries import with_retries


def answer(status, headers=None):
    request = httpx2.Request("POST", "http://hub/api")
    return HfHubHTTPError(f"status {status}", response=httpx2.Response(status, headers=headers, request=request))


class Failing:
    """Raises these errors one after the other, then returns."""

    def __init__(self, *errors):
        self.errors, self.calls = list(errors), 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_what_works_is_called_once():
    call = Failing()
    assert with_retries(call) == "done"
    assert call.calls == 1


@pytest.mark.parametrize(
    "error", [answer(500), answer(429), answer(503, {"Retry-After": "0"}), httpx2.ReadError("cut")]
)
def test_a_passing_fault_is_tried_again(error, capsys):
    call = Failing(error, error)
    assert with_retries(call, first_wait=0.0) == "done"
    assert call.calls == 3
    assert capsys.readouterr().out.count("trying again") == 2


@pytest.mark.parametrize("error", [answer(401), answer(403), answer(404), answer(507), ValueError("ours")])
def test_what_no_waiting_cures_is_raised_at_once(error):
    call = Failing(error)
    with pytest.raises(type(error)):
        with_retries(call, first_wait=0.0)
    assert call.calls == 1


def test_there_is_an_end_to_it():
    call = Failing(*[answer(500)] * 9)
    with pytest.raises(HfHubHTTPError):
        with_retries(call, attempts=3, first_wait=0.0)
    assert call.calls == 3


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (answer(401), "does not know this token"),
        (answer(403), "the right to write to me"),
        (answer(409), "choose another name"),
        (answer(429), "fewer requests"),
        (answer(502), "the Hub fails"),
        (answer(418), "refuses with status 418"),
        (OSError(28, "No space left on device", "/cache/blob"), "the disk is full at /cache/blob"),
        (httpx2.ConnectError("refused"), "failed (refused)"),
    ],
)
def test_errors_say_what_happened_and_are_found_behind_others(error, words):
    def raise_wrapped():
        try:
            raise error
        except Exception as inner:
            raise OSError("transformers cannot load it") from inner

    for fail in (Failing(error), raise_wrapped):
        with pytest.raises(InputError, match=r"^me/x: ") as caught, hub_errors("me/x"):
            fail()
        assert words in str(caught.value)


def test_errors_that_are_not_the_hubs_pass():
    with pytest.raises(ZeroDivisionError), hub_errors("me/x"):
        raise ZeroDivisionError
    with pytest.raises(InputError, match=r"^mine$"), hub_errors("me/x"):
        raise InputError("mine")
