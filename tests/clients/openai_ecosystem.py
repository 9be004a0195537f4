"""langchain-openai, litellm and the official client's newer calls, unchanged, against a running server. Needs those packages;
what is missing is said to be skipped.

    python tests/clients/openai_ecosystem.py http://127.0.0.1:8080/v1 [--tools]

--tools: the model's template renders tools. Prints a line a check, exits with 1 if one failed.
"""

import argparse
import importlib.util
import json
import sys
import traceback

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
          "required": ["name", "age"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}}}
ASK = [{"role": "user", "content": "Say hello."}]


def openai_json_schema(url, model):
    import openai
    client = openai.OpenAI(base_url=url, api_key="none")
    for temperature in (0, 1):
        answer = client.chat.completions.create(model=model, messages=ASK, max_tokens=200, temperature=temperature, seed=3, response_format={
            "type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}})
        assert answer.choices[0].finish_reason == "stop", answer
        person = json.loads(answer.choices[0].message.content)
        assert set(person) == {"name", "age"} and 0 <= person["age"] <= 120, person


def openai_json_object(url, model):
    import openai
    client = openai.OpenAI(base_url=url, api_key="none")
    answer = client.chat.completions.create(model=model, messages=ASK, max_tokens=400, temperature=0,
                                            response_format={"type": "json_object"})
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


def openai_embeddings(url, model):
    import openai
    client = openai.OpenAI(base_url=url, api_key="none")
    base64 = client.embeddings.create(model=model, input=["The cat sat.", "A cat was sitting.", "Stock prices fell."]).data
    floats = client.embeddings.create(model=model, input="The cat sat.", encoding_format="float").data
    dot = lambda a, b: sum(x * y for x, y in zip(a.embedding, b.embedding))  # noqa: E731
    assert abs(dot(base64[0], floats[0]) - 1) < 1e-4
    assert dot(base64[0], base64[1]) > dot(base64[0], base64[2])


def openai_tools(url, model):
    import openai
    client = openai.OpenAI(base_url=url, api_key="none")
    for stream in (False, True):
        answer = client.chat.completions.create(model=model, messages=ASK, max_tokens=200, temperature=0, tools=[TOOL],
                                                tool_choice="required", parallel_tool_calls=False, stream=stream)
        if stream:
            calls = [call for chunk in answer for choice in chunk.choices for call in choice.delta.tool_calls or []]
        else:
            assert answer.choices[0].finish_reason == "tool_calls", answer
            calls = answer.choices[0].message.tool_calls
        assert calls[0].function.name == "get_weather" and "city" in json.loads(calls[0].function.arguments), calls


def langchain(url, model):
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    chat = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_tokens=16)
    said = chat.invoke("Say hello.")
    assert said.content and said.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.content for chunk in chat.stream("Say hello.")) == said.content
    person = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_tokens=200).with_structured_output(
        {"title": "person", **SCHEMA}, method="json_schema").invoke("A person, please.")
    assert set(person) == {"name", "age"}, person
    vectors = OpenAIEmbeddings(base_url=url, api_key="none", model=model, check_embedding_ctx_length=False).embed_documents(["a", "b"])
    assert len(vectors) == 2 and len(vectors[0]) > 0


def langchain_tools(url, model):
    from langchain_openai import ChatOpenAI
    chat = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_tokens=200)
    said = chat.bind_tools([TOOL], tool_choice="get_weather").invoke("The weather of Oslo?")
    assert said.tool_calls[0]["name"] == "get_weather" and "city" in said.tool_calls[0]["args"], said


def litellm(url, model):
    import litellm as client
    client.telemetry = False
    options = {"model": f"openai/{model}", "api_base": url, "api_key": "none", "messages": ASK, "max_tokens": 16, "temperature": 0}
    whole = client.completion(**options).choices[0].message.content
    assert whole
    assert "".join(chunk.choices[0].delta.content or "" for chunk in client.completion(**options, stream=True)) == whole
    assert len(client.embedding(model=f"openai/{model}", api_base=url, api_key="none", input=["a"]).data[0]["embedding"]) > 0
    try:
        client.completion(**{**options, "temperature": 3})
        raise SystemError("temperature 3 was taken")
    except client.BadRequestError as error:
        assert "temperature" in str(error)


CHECKS = [("openai", openai_json_schema), ("openai", openai_json_object), ("openai", openai_embeddings), ("openai", openai_tools),
          ("langchain_openai", langchain), ("langchain_openai", langchain_tools), ("litellm", litellm)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--tools", action="store_true")
    options = parser.parse_args()
    import urllib.request
    model = json.load(urllib.request.urlopen(options.url + "/models"))["data"][0]["id"]
    failed = 0
    for package, check in CHECKS:
        if importlib.util.find_spec(package) is None:
            print(f"skipped {check.__name__}: no {package}")
        elif check.__name__.endswith("tools") and not options.tools:
            print(f"skipped {check.__name__}: the model's template renders no tools")
        else:
            try:
                check(options.url, model)
                print(f"passed  {check.__name__}")
            except Exception:  # noqa: BLE001: a check that fails must not keep the others from running
                failed += 1
                print(f"FAILED  {check.__name__}\n{traceback.format_exc()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
