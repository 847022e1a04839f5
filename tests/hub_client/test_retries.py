import re

import hf_xet
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, XetDownloadError
from huggingface_hub.utils import httpx

from agssp import InputError
from agssp.hub_client.errors import hub_errors
from agssp.hub_client.retries import with_retries


def answer(status, headers=None):
    request = httpx.Request("POST", "http://hub/api")
    return HfHubHTTPError(f"status {status}", response=httpx.Response(status, headers=headers, request=request))


def wrapped(cause):
    error = RuntimeError("Error while uploading 'model.safetensors' to the Hub.")
    error.__cause__ = cause
    return error


OF_THE_LINE = [
    httpx.ReadError("cut"),
    hf_xet.XetAuthenticationError("token expired"),
    hf_xet.XetObjectNotFoundError("CAS object not found"),
    XetDownloadError("cut"),
    RuntimeError("Data processing error: CAS service error : ReqwestMiddleware Error: request failed"),
    ConnectionResetError("reset"),
    TimeoutError("timed out"),
]


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
    "error",
    [answer(500), answer(429), answer(503, {"Retry-After": "0"}), wrapped(answer(500)), *OF_THE_LINE],
)
def test_a_passing_fault_is_tried_again(error, caplog):
    call = Failing(error, error)
    assert with_retries(call, first_wait=0.0) == "done"
    assert call.calls == 3
    assert caplog.text.count("trying again") == 2


@pytest.mark.parametrize(
    "error",
    [
        answer(401),
        answer(403),
        answer(404),
        answer(507),
        ValueError("ours"),
        wrapped(answer(403)),
        wrapped(ValueError("ours")),
        RuntimeError("Error(s) in loading state_dict"),
        OfflineModeIsEnabled("offline"),
        FileNotFoundError("a"),
    ],
)
def test_what_no_waiting_cures_is_raised_at_once(error):
    call = Failing(error)
    with pytest.raises(type(error), match=f"^{re.escape(str(error))}$") as raised:
        with_retries(call, first_wait=0.0)
    assert raised.value is error
    assert call.calls == 1


def test_there_is_an_end_to_it():
    call = Failing(*[answer(500)] * 9)
    with pytest.raises(HfHubHTTPError, match=r"^status 500$"):
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
        (httpx.ConnectError("refused"), "failed (refused)"),
        *[(error, "the connection to") for error in OF_THE_LINE],
        (wrapped(answer(507)), "no room for it on the Hub"),
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
    with pytest.raises(ZeroDivisionError, match=r"^ours$"), hub_errors("me/x"):
        raise ZeroDivisionError("ours")
    with pytest.raises(InputError, match=r"^mine$"), hub_errors("me/x"):
        raise InputError("mine")
    with pytest.raises(RuntimeError, match="state_dict"), hub_errors("me/x"):
        raise RuntimeError("Error(s) in loading state_dict")
