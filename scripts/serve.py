"""Serve a classifier over HTTP: `pip install fastapi uvicorn`, `python scripts/serve.py runs/mine --port 8000`."""

import argparse
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

from rnn_hf import TextClassifier


class Request(BaseModel):
    """Texts to classify."""

    texts: Annotated[list[str], Field(min_length=1, max_length=1000)]


def create_app(classifier: TextClassifier) -> FastAPI:
    """Return the service; its threads share the classifier."""
    app = FastAPI(title="rnn_hf")

    @app.post("/predict")
    def predict(request: Request) -> list[dict[str, Any]]:
        rows = classifier.predict_proba(request.texts, show_progress=False)
        scores = [dict(zip(classifier.label_names, row, strict=True)) for row in rows.tolist()]
        return [{"answer": a, "scores": s} for a, s in zip(classifier.answers(rows), scores, strict=True)]

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    uvicorn.run(create_app(TextClassifier.from_pretrained(args.model)), port=args.port)
