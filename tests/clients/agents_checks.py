"""Run by an interpreter that has OpenAI's Agents SDK, which asks the Responses API. Prints one JSON object of outcomes.

python agents_checks.py http://127.0.0.1:PORT/v1 MODEL
"""

import sys
from typing import Literal

import agents
import checking
import openai
from pydantic import BaseModel, Field

BASE, MODEL = sys.argv[1], sys.argv[2]
ENDING = {"logit_bias": {"2": 5}}  # a model of random weights comes to its end sooner
agents.set_tracing_disabled(True)


def use_server():
    """A client belongs to the loop in which it is first used."""
    agents.set_default_openai_client(openai.AsyncOpenAI(base_url=BASE, api_key="none", max_retries=0, timeout=60))


class Place(BaseModel):
    city: str = Field(max_length=8)
    n: int = Field(ge=0, le=9)


@agents.function_tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def agent(**more):
    return agents.Agent(name="desk", model=MODEL, instructions="Be kind.", **more)


def settings(**more):
    return agents.ModelSettings(temperature=0, extra_body=ENDING, **more)


async def check_tools_and_a_session():
    session = agents.SQLiteSession("one")
    forced = agent(tools=[weather], model_settings=settings(tool_choice="required"))
    told = await agents.Runner.run(forced, "Where is my order?", session=session, max_turns=8)
    kinds = [item.type for item in told.new_items]
    assert kinds[:2] == ["tool_call_item", "tool_call_output_item"]
    assert "sunny in" in told.new_items[1].output
    again = await agents.Runner.run(agent(model_settings=settings()), "And now?", session=session)
    assert again.final_output is not None
    assert [item.get("type", "message") for item in await session.get_items()][1:3] == [
        "function_call",
        "function_call_output",
    ]


async def check_output_type():
    told = await agents.Runner.run(
        agent(output_type=Place, model_settings=agents.ModelSettings(temperature=0)), "Where?"
    )
    assert isinstance(told.final_output, Place)


async def check_previous_response():
    first = await agents.Runner.run(agent(model_settings=settings()), "Where?")
    second = await agents.Runner.run(
        agent(model_settings=settings()), "And now?", previous_response_id=first.last_response_id
    )
    used = [told.raw_responses[0].usage.input_tokens for told in (first, second)]
    assert used[1] > used[0]


async def check_stream():
    told = agents.Runner.run_streamed(agent(model_settings=settings()), "Where?", auto_previous_response_id=True)
    kinds = [event.data.type async for event in told.stream_events() if event.type == "raw_response_event"]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert told.final_output is not None


if __name__ == "__main__":
    checking.run(globals(), Exception, use_server)  # whatever the SDK raises is an outcome
