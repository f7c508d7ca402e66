"""Scores of a compressor on articles that its training did not see."""

from pathlib import Path

from cmt.config import Params
from cmt.evaluation.evaluate import Evaluation, evaluate
from cmt.evaluation.sampling import sample_on_documents
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from cmt.project import Project
from cmt.training.data import TrainingData, load_base_data


def held_out_scores(
    *,
    folder: Path,
    lm: FrozenLM,
    data: TrainingData,
    params: Params,
    limit: int,
    state: Path | None = None,
    as_in_use: bool = False,
) -> Evaluation:
    """Evaluate the compressor in `folder` on the held-out articles of `data`: a seeded sample of
    `limit` questions.

    Its bank holds all of these articles. It never abstains, so that only the answers decide.
    `state`, `as_in_use`: see `TemporaryBank.of`.
    """
    params = params.without_abstention()
    bank = TemporaryBank.of(
        folder, lm=lm, documents=data.held_out, params=params, state=state, as_in_use=as_in_use
    )
    with bank.answerer() as answerer:
        questions = sample_on_documents(
            data.questions, data.held_out, limit=limit, seed=params.seed
        )
        return evaluate(answerer, questions)


def measure_compressor(
    project: Project, folder: Path, *, questions: int
) -> tuple[dict[str, float | None], str]:
    """Evaluate the compressor in `folder` on `questions` questions about the held-out articles of
    the training data.

    Returns its scores by name, and `held_out_name`. Raises StreamError if the training data are not
    installed.
    """
    params = project.params
    data = load_base_data(params)
    evaluation = held_out_scores(
        folder=folder,
        lm=project.lm,
        data=data,
        params=params,
        limit=questions,
        state=project.state,
    )
    return evaluation.systems[0].by_name(), held_out_name(params, questions=questions)


def held_out_name(params: Params, *, questions: int) -> str:
    """The name of a held-out evaluation: equal names mean equal questions."""
    train = params.train
    source = "; ".join(source.rpartition("/")[2] for source in train.base)
    articles = f"{train.validation_articles} articles of {source}"
    return f"{questions} questions on {articles}, seed {params.seed}"
