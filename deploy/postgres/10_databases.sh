#!/bin/sh
# Runs once, on an empty volume: one login and one database for the project, one for MLflow.
set -eu

psql --set=ON_ERROR_STOP=1 --no-psqlrc --quiet --username postgres --dbname postgres <<'SQL'
\getenv project_user MLOPS_DATABASE_USER
\getenv project_password MLOPS_DATABASE_PASSWORD
\getenv project_database MLOPS_DATABASE_NAME
\getenv mlflow_password MLFLOW_DATABASE_PASSWORD
CREATE ROLE :"project_user" LOGIN PASSWORD :'project_password';
CREATE DATABASE :"project_database" OWNER :"project_user";
REVOKE CONNECT ON DATABASE :"project_database" FROM PUBLIC;
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE mlflow OWNER mlflow;
REVOKE CONNECT ON DATABASE mlflow FROM PUBLIC;
SQL
