"""What is served."""

from hothouse.env import create_app

from models import {{Name}}Action, {{Name}}Observation, {{Name}}State
from server.environment import {{Name}}Environment

app = create_app(
    {{Name}}Environment, {{Name}}Action, {{Name}}Observation, env_name="{{name}}", state_cls={{Name}}State
)
