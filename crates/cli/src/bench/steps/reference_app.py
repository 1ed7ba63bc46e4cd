"""The echo environment of the comparison, served by the reference's own server."""

from uuid import uuid4

from openenv.core.env_server import Action, Environment, Observation, State, create_app


class EchoAction(Action):
    """What to say."""

    message: str


class EchoObservation(Observation):
    """What was said."""

    echoed_message: str = ""
    message_length: int = 0


class EchoEnvironment(Environment):
    """Says what it was told."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(self, seed=None, episode_id=None, **kwargs):
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return EchoObservation(echoed_message="ready", done=False, reward=0.0)

    def step(self, action):
        self._state.step_count += 1
        text = action.message
        return EchoObservation(
            echoed_message=text,
            message_length=len(text),
            done=False,
            reward=min(0.1 * len(text), 1.0),
            metadata={"original_message": text, "step": self._state.step_count},
        )

    @property
    def state(self):
        return self._state


app = create_app(
    EchoEnvironment,
    EchoAction,
    EchoObservation,
    env_name="echo",
    max_concurrent_envs=100_000,
)
