-- A store as schema 1 left it: what `sqlite3 FILE .dump` gives, and the header's numbers.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1886286957;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES('count_pool',1);
INSERT INTO meta VALUES('count_route',2);
INSERT INTO meta VALUES('node_id','0123456789abcdef');
INSERT INTO meta VALUES('revision',7);
CREATE TABLE records(noun INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, revision INTEGER NOT NULL, schema INTEGER NOT NULL, PRIMARY KEY(noun, key)) WITHOUT ROWID;
INSERT INTO records VALUES(0,'shop.example.com','{"host":"shop.example.com","path":"/","pool":"shop-web"}',5,1);
INSERT INTO records VALUES(0,'shop.example.com/api','{"host":"shop.example.com","path":"/api","targets":["10.0.0.5:8080"]}',7,1);
INSERT INTO records VALUES(1,'shop-web','{"targets":[{"address":"10.0.0.5:8080"}]}',4,1);
CREATE TABLE refs(to_noun INTEGER NOT NULL, to_key TEXT NOT NULL, from_noun INTEGER NOT NULL, from_key TEXT NOT NULL, PRIMARY KEY(to_noun, to_key, from_noun, from_key)) WITHOUT ROWID;
INSERT INTO refs VALUES(1,'shop-web',0,'shop.example.com');
CREATE INDEX refs_from ON refs(from_noun, from_key);
COMMIT;
