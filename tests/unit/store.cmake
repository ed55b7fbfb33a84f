manx_test(store_test store_sqlite_test.cpp store_watch_test.cpp store_processes_test.cpp LABEL unit
              LINK manx::datastore nlohmann_json::nlohmann_json)
