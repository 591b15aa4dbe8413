"""The model behind LitServe.

MODEL=model.joblib python litserve_app.py PORT
"""

import os
import sys

import joblib
import litserve


class Iris(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request):
        return request["rows"]

    def predict(self, rows):
        return self.model.predict(rows)

    def encode_response(self, classes):
        return classes.tolist()


if __name__ == "__main__":
    server = litserve.LitServer(Iris(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
