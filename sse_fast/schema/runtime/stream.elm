-- STREAMS


{-| What comes of a stream: an event, or what happens to the stream itself. `Lost`: events are gone, so fetch your state
anew. `Unknown`: an event of a type that this module does not know, of a newer schema.
-}
type StreamUpdate event
    = Received { id : String, event : event }
    | Lost Gap
    | Reconnected
    | StateChanged StreamState
    | Failed StreamError
    | Unknown { id : String, name : String }


{-| Events between the ids `after` and `until` are gone; `positions`: how many of all channels that is, where it is known.
-}
type alias Gap =
    { after : Maybe String
    , until : Maybe String
    , positions : Maybe Int
    }


{-| `until`: when the next attempt is made, in milliseconds since 1970, if that is known.
-}
type StreamState
    = Connecting
    | Open
    | Waiting { until : Maybe Float, attempt : Int, why : String }
    | Closed { why : String }


{-| `final`: the stream has ended and does not come back.
-}
type alias StreamError =
    { message : String
    , final : Bool
    }


{-| To the page's script, which carries the streams.
-}
port sseFast : Encode.Value -> Cmd msg


command : String -> String -> String -> List String -> Encode.Value -> Maybe String -> Cmd msg
command verb updates channel parts parameters after =
    sseFast
        (Encode.object
            [ ( "do", Encode.string verb )
            , ( "updates", Encode.string updates )
            , ( "channel", Encode.string channel )
            , ( "parts", Encode.list Encode.string parts )
            , ( "parameters", parameters )
            , ( "after", Maybe.withDefault Encode.null (Maybe.map Encode.string after) )
            ]
        )


updateOf : (String -> Maybe (Decoder event)) -> Decode.Value -> StreamUpdate event
updateOf decoderOf told =
    case Decode.decodeValue (updateDecoder decoderOf) told of
        Ok update ->
            update

        Err wrong ->
            Failed { message = Decode.errorToString wrong, final = False }


updateDecoder : (String -> Maybe (Decoder event)) -> Decoder (StreamUpdate event)
updateDecoder decoderOf =
    Decode.field "kind" Decode.string
        |> Decode.andThen
            (\kind ->
                case kind of
                    "event" ->
                        Decode.map3 receivedOf
                            (Decode.field "type" Decode.string)
                            (Decode.field "id" Decode.string)
                            (Decode.field "data" Decode.string)
                            |> Decode.map (\receive -> receive decoderOf)

                    "gap" ->
                        Decode.map3 Gap
                            (Decode.field "after" (Decode.nullable Decode.string))
                            (Decode.field "until" (Decode.nullable Decode.string))
                            (Decode.maybe (Decode.field "positions" Decode.int))
                            |> Decode.map Lost

                    "reconnect" ->
                        Decode.succeed Reconnected

                    "error" ->
                        Decode.map2 StreamError
                            (Decode.field "message" Decode.string)
                            (Decode.field "final" Decode.bool)
                            |> Decode.map Failed

                    _ ->
                        Decode.map StateChanged stateDecoder
            )


receivedOf : String -> String -> String -> (String -> Maybe (Decoder event)) -> StreamUpdate event
receivedOf name id data decoderOf =
    case decoderOf name of
        Nothing ->
            Unknown { id = id, name = name }

        Just decoder ->
            case Decode.decodeString decoder data of
                Ok event ->
                    Received { id = id, event = event }

                Err wrong ->
                    Failed { message = "the event " ++ name ++ " " ++ id ++ ": " ++ Decode.errorToString wrong, final = False }


stateDecoder : Decoder StreamState
stateDecoder =
    Decode.field "name" Decode.string
        |> Decode.andThen
            (\name ->
                case name of
                    "connecting" ->
                        Decode.succeed Connecting

                    "open" ->
                        Decode.succeed Open

                    "waiting" ->
                        Decode.map3 (\until attempt why -> Waiting { until = until, attempt = attempt, why = why })
                            (Decode.field "until" (Decode.nullable Decode.float))
                            (Decode.field "attempt" Decode.int)
                            (Decode.field "why" Decode.string)

                    _ ->
                        Decode.map (\why -> Closed { why = why }) (Decode.field "why" Decode.string)
            )



-- DECODERS


required : String -> Decoder a -> Decoder (a -> b) -> Decoder b
required name decoder =
    Decode.map2 (|>) (Decode.field name decoder)


{-| Nothing where the field is missing, or null.
-}
optional : String -> Decoder a -> Decoder (Maybe a -> b) -> Decoder b
optional name decoder =
    Decode.map2 (|>)
        (Decode.maybe (Decode.field name Decode.value)
            |> Decode.andThen
                (\found ->
                    case found of
                        Nothing ->
                            Decode.succeed Nothing

                        Just _ ->
                            Decode.field name (Decode.nullable decoder)
                )
        )


{-| Whatever has no field that it needs is an object all the same.
-}
object : Decoder a -> Decoder a
object decoder =
    Decode.dict Decode.value |> Decode.andThen (\_ -> decoder)


oneOfThese : List a -> Decoder a -> Decoder a
oneOfThese values decoder =
    decoder
        |> Decode.andThen
            (\found ->
                if List.member found values then
                    Decode.succeed found

                else
                    Decode.fail "this is none of the values that it may be"
            )
