"""flask-mercure-sse, in a Flask app: python flask_mercure_sdk.py publish|subscriptions HUB KEY JSON."""

import json
import sys

from flask import Flask
from flask_mercure_sse import MercureSSE

work, hub, key, given = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
app = Flask(__name__)
app.config["SECRET_KEY"] = key
mercure = MercureSSE(app, hub_url=hub)
with app.test_request_context():
    if work == "publish":
        for one in given:
            fields = {name: one[name] for name in ("data", "private", "id", "type", "retry")}
            print(json.dumps({"id": mercure.publish(one["topics"][0], **fields)}))
    else:
        print(json.dumps(mercure.get_subscriptions(given["topics"][0])))
