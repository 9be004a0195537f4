"""The official Python client, unchanged, against a running server. Not part of ctest: it needs the `openai` package.

    retort serve --model MODEL --port 8080 &
    python tests/e2e/openai_client.py http://127.0.0.1:8080/v1 [--api-key KEY]

Prints a line for each check that failed, then 'N passed, M failed', and exits with 1 if any did.
"""

import argparse
import math
import sys
import traceback

import openai

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def ask(client, model, text="Say hello.", **options):
    options.setdefault("max_tokens", 16)
    options.setdefault("temperature", 0)
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **options)


def expect(error, call, **attributes):
    try:
        call()
    except error as caught:
        for name, value in attributes.items():
            assert getattr(caught, name) == value, f"{name} is {getattr(caught, name)!r}, not {value!r}"
        return
    raise AssertionError(f"no {error.__name__}")


@check
def lists_models(client, model, _):
    listed = [entry.id for entry in client.models.list()]
    assert model in listed, listed


@check
def retrieves_a_model(client, model, _):
    assert client.models.retrieve(model).id == model


@check
def chats(client, model, _):
    answer = ask(client, model)
    assert answer.object == "chat.completion" and answer.model == model
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content, choice
    assert choice.finish_reason in ("stop", "length"), choice.finish_reason
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens and usage.completion_tokens > 0
    assert usage.prompt_tokens_details.cached_tokens >= 0


@check
def takes_content_in_parts(client, model, _):
    parts = [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]
    split = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": parts}], max_tokens=16, temperature=0)
    assert split.choices[0].message.content == ask(client, model).choices[0].message.content


@check
def streams_what_it_says(client, model, _):
    whole = ask(client, model).choices[0].message.content
    chunks = list(ask(client, model, stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert [chunk.choices[0].finish_reason for chunk in chunks].count(None) == len(chunks) - 1
    assert all(chunk.usage is None for chunk in chunks)


@check
def streams_usage_last(client, model, _):
    chunks = list(ask(client, model, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


@check
def a_stream_may_be_left(client, model, _):
    stream = ask(client, model, stream=True, max_tokens=200)
    next(iter(stream))
    stream.close()
    assert ask(client, model, max_tokens=1).choices


@check
def stops_at_max_tokens(client, model, _):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Count to a hundred."}], temperature=0, **{name: 2})
        assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 2, answer


@check
def stops_at_a_string(client, model, _):
    whole = ask(client, model).choices[0].message.content
    assert len(whole) > 4, whole
    stop = whole[3:5]
    cut = ask(client, model, stop=stop)
    assert cut.choices[0].message.content == whole[:whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in ask(client, model, stop=[stop], stream=True))
    assert streamed == whole[:whole.index(stop)], streamed


@check
def gives_logprobs_with_bytes(client, model, _):
    answer = ask(client, model, logprobs=True, top_logprobs=3, max_tokens=4)
    content = answer.choices[0].logprobs.content
    text = answer.choices[0].message.content
    assert content and b"".join(bytes(token.bytes) for token in content).startswith(text.encode())
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert math.isclose(token.top_logprobs[0].logprob, max(top.logprob for top in token.top_logprobs))
    streamed = [token for chunk in ask(client, model, logprobs=True, max_tokens=4, stream=True)
                if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in content]
    assert ask(client, model).choices[0].logprobs is None


@check
def gives_several_choices(client, model, _):
    answer = ask(client, model, n=3, temperature=1, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


@check
def a_seed_repeats(client, model, _):
    say = [ask(client, model, temperature=1, seed=5).choices[0].message.content for _ in range(2)]
    assert say[0] == say[1], say


@check
def completes_text(client, model, _):
    answer = client.completions.create(model=model, prompt="Once upon a time", max_tokens=4, temperature=0)
    assert answer.object == "text_completion" and answer.choices[0].text
    streamed = client.completions.create(
        model=model, prompt="Once upon a time", max_tokens=4, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text


@check
def an_unknown_model_is_not_found(client, _model, _):
    expect(openai.NotFoundError, lambda: ask(client, "no-such-model"), code="model_not_found")
    expect(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"), code="model_not_found")


@check
def a_wrong_key_is_an_authentication_error(client, model, key):
    if not key:
        return "skipped: the server asks for no key (give --api-key)"
    wrong = client.with_options(api_key="wrong")
    expect(openai.AuthenticationError, lambda: ask(wrong, model), code="invalid_api_key")
    expect(openai.AuthenticationError, lambda: list(wrong.models.list()), code="invalid_api_key")
    return None


@check
def bad_parameters_are_bad_requests(client, model, _):
    bad = openai.BadRequestError
    expect(bad, lambda: ask(client, model, temperature="hot"), param="temperature")
    expect(bad, lambda: ask(client, model, temperature=3), param="temperature", code="invalid_value")
    expect(bad, lambda: ask(client, model, n=0), param="n")
    expect(bad, lambda: ask(client, model, stop=["a", "b", "c", "d", "e"]), param="stop")
    expect(bad, lambda: ask(client, model, logprobs=True, top_logprobs=21), param="top_logprobs")
    expect(bad, lambda: ask(client, model, response_format={"type": "xml"}), param="response_format.type")
    expect(bad, lambda: client.chat.completions.create(model=model, messages=[]), param="messages")


@check
def a_prompt_that_is_too_long_says_so(client, model, _):
    expect(openai.BadRequestError, lambda: ask(client, model, "word " * 100_000), code="context_length_exceeded")


@check
def answers_side_by_side(client, model, _):
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        alone = ask(client, model, max_tokens=8).choices[0].message.content
        together = list(pool.map(
            lambda _: ask(client, model, max_tokens=8).choices[0].message.content, range(4)))
    assert together == [alone] * 4, (alone, together)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base_url")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--model", default="", help="the first listed if not given")
    options = parser.parse_args()
    client = openai.OpenAI(base_url=options.base_url, api_key=options.api_key or "none", max_retries=0, timeout=120)
    model = options.model or next(iter(client.models.list())).id
    failed = 0
    skipped = 0
    for function in CHECKS:
        try:
            note = function(client, model, options.api_key)
            if note:
                skipped += 1
                print(f"{function.__name__}: {note}")
        except Exception:  # a check that breaks is a check that fails
            failed += 1
            print(f"FAILED {function.__name__}\n{traceback.format_exc()}")
    print(f"{len(CHECKS) - failed - skipped} passed, {failed} failed (openai {openai.__version__}, {model})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
