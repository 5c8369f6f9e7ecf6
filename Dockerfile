# A worker: the package, its pinned requirements and the programs of workers/.
FROM python:3.11-slim AS wheel
WORKDIR /src
COPY requirements/build.txt requirements/
RUN python -m pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY pytest_shifter.py ./
COPY shifter ./shifter
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.11-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin shifter

# requirements first: they change less often than the code; dns, fast, grpc
# and http are in run.txt
COPY requirements/run.txt requirements/
RUN python -m pip install --require-hashes -r requirements/run.txt
COPY --from=wheel /wheels /wheels
RUN python -m pip install --no-deps /wheels/*.whl && rm -r /wheels
COPY workers ./workers

USER shifter
# exec form: SIGTERM reaches the supervisor, which drains
ENTRYPOINT ["shifter"]
CMD ["work", "workers.http_relay:app"]
