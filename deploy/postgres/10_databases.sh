#!/bin/sh
# Runs once, on an empty volume: the project's database with its owner and a login for each service
# that uses it, and a database with an owner for MLflow. deploy/bin/grants.sql has the grants.
set -eu

psql --set=ON_ERROR_STOP=1 --no-psqlrc --quiet --username postgres --dbname postgres <<'SQL'
\getenv owner MLOPS_DATABASE_USER
\getenv owner_password MLOPS_DATABASE_PASSWORD
\getenv database MLOPS_DATABASE_NAME
\getenv pipeline_password PIPELINE_DATABASE_PASSWORD
\getenv generator_password GENERATOR_DATABASE_PASSWORD
\getenv api_password API_DATABASE_PASSWORD
\getenv mlflow_password MLFLOW_DATABASE_PASSWORD
CREATE ROLE :"owner" LOGIN PASSWORD :'owner_password';
CREATE ROLE pipeline LOGIN PASSWORD :'pipeline_password';
CREATE ROLE generator LOGIN PASSWORD :'generator_password';
CREATE ROLE api LOGIN PASSWORD :'api_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE :"database" OWNER :"owner";
CREATE DATABASE mlflow OWNER mlflow;
REVOKE ALL ON DATABASE :"database", mlflow FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE :"database" TO pipeline, generator, api;
\connect :"database"
-- Contracts of people: their tables are made by the pipelines, and served.
GRANT CREATE ON SCHEMA public TO pipeline;
ALTER DEFAULT PRIVILEGES FOR ROLE pipeline IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO api;
ALTER DEFAULT PRIVILEGES FOR ROLE pipeline IN SCHEMA public GRANT USAGE ON SEQUENCES TO api;
SQL
