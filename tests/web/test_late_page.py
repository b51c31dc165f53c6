"""Gradio's page is built when it is first asked for, and the user's photos are there before."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from starlette.testclient import TestClient

from tripletcl.web.server import MEMORY, build_app
from tripletcl.web.uploads import private_uploads

HOST = "http://127.0.0.1:7860"


def test_the_page_is_built_once_and_only_for_those_who_ask_for_it() -> None:
    built: list[gr.Blocks] = []

    def build() -> gr.Blocks:
        with gr.Blocks(title="stages") as page:
            slider = gr.Slider(0, 4)
            slider.change(lambda _: None, slider, None, queue=False)
        built.append(page)
        return page

    with private_uploads() as uploads, TestClient(build_app(build, uploads, api=FastAPI()), base_url=HOST) as client:
        assert "main.js" in client.get("/").text
        assert client.get(f"/{MEMORY}nowhere").status_code == 404
        assert built == []
        with ThreadPoolExecutor(4) as visitors:
            pages = list(visitors.map(lambda _: client.get(f"/{MEMORY}").text, range(4)))
        assert all("stages" in page for page in pages)
        assert len(built) == 1


def test_a_call_of_a_page_that_another_server_gave_is_checked_by_the_page_that_is_built_for_it() -> None:
    """A browser shows the page of a server that was started again meanwhile."""
    with gr.Blocks() as page:
        slider = gr.Slider(0, 4)
        slider.change(lambda _: None, slider, None, queue=False)
    call = {"fn_index": 0, "data": ["no number"], "session_hash": "abc"}
    with (
        private_uploads() as uploads,
        TestClient(build_app(lambda: page, uploads, api=FastAPI()), base_url=HOST) as client,
    ):
        refused = client.post(f"/{MEMORY}gradio_api/run/predict", json=call)
        assert refused.status_code == 422
        assert client.post(f"/{MEMORY}gradio_api/run/predict", json={**call, "data": [3]}).status_code == 200


def test_a_server_without_the_page_makes_none_of_its_calls() -> None:
    with private_uploads() as uploads, TestClient(build_app(None, uploads, api=FastAPI()), base_url=HOST) as client:
        assert client.get(f"/{MEMORY}").status_code == 404
        assert client.post(f"/{MEMORY}gradio_api/queue/join", json={}).status_code == 422


def test_serve_answers_without_gradio_and_without_charts(runs: Path) -> None:
    """Both are loaded with the page of stages and methods."""
    code = (
        "import sys\nimport uvicorn\nfrom starlette.testclient import TestClient\n"
        "def run(self, sockets):\n"
        "    with TestClient(self.config.app, base_url='http://127.0.0.1:7860') as client:\n"
        "        assert client.get('/').status_code == 200\n"
        "    heavy = {'gradio', 'matplotlib', 'sklearn', 'torchvision', 'timm'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
        "uvicorn.Server.run = run\n"
        "from tripletcl.cli import main\nsys.argv[0] = 'tripletcl'\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    command = [sys.executable, "-c", code, "serve", str(runs / "mas-split0-seed0"), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
