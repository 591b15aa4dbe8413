"""The model behind LitServe: MODEL=folder python litserve_app.py PORT"""

import os
import sys

import joblib
import litserve
import numpy as np


class Served(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(os.environ["MODEL"] + "/model.joblib")

    def predict(self, request):
        return self.model.predict(np.array(request["rows"], dtype=float)).tolist()


if __name__ == "__main__":
    server = litserve.LitServer(Served(), accelerator="cpu", devices=1, workers_per_device=1)
    quiet = {"log_level": "warning", "access_log": False, "generate_client_file": False}
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, **quiet)
