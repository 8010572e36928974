-- The databases of the servers; PostgreSQL's image reads this when it makes its data.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_users;
CREATE DATABASE prefect;
