"""What peers load, and what scikit-learn says to rows.json: python export.py MLFLOW-FOLDER"""

import json
import sys
from pathlib import Path

import joblib
import mlflow
import pandas as pd

folder = Path(sys.argv[1])
model = mlflow.sklearn.load_model(str(folder))
joblib.dump(model, folder / "model.joblib")
rows = pd.DataFrame(**json.loads((folder / "rows.json").read_text()), dtype=float)
(folder / "answers.json").write_text(json.dumps(model.predict(rows).tolist()))
