<?php
// symfony/mercure and Symfony's HTTP client: php symfony.php publish|subscribe HUB TOKEN JSON; what it has to say goes
// out, a JSON object a line.
require '/usr/share/php/Symfony/Component/Mercure/autoload.php';

use Symfony\Component\HttpClient\Chunk\ServerSentEvent;
use Symfony\Component\HttpClient\EventSourceHttpClient;
use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\Jwt\StaticTokenProvider;
use Symfony\Component\Mercure\Update;

function say(array $what): void
{
    fwrite(STDOUT, json_encode($what, JSON_THROW_ON_ERROR)."\n");
}

[, $work, $url, $token, $given] = $argv;
$given = json_decode($given, true, 512, JSON_THROW_ON_ERROR);
if ('publish' === $work) {
    $hub = new Hub($url, new StaticTokenProvider($token));
    foreach ($given as $one) {
        $update = new Update($one['topics'], $one['data'], $one['private'], $one['id'], $one['type'], $one['retry']);
        say(['id' => $hub->publish($update)]);
    }
    exit;
}
$query = implode('&', array_map(fn ($topic) => 'topic='.urlencode($topic), $given['topics']));
$client = new EventSourceHttpClient();
$source = $client->connect("$url?$query", ['headers' => ['Authorization' => "Bearer $token"]]);
while (true) {
    foreach ($client->stream($source, 30) as $chunk) {
        if ($chunk->isTimeout() || $chunk->isLast()) {
            exit(1);
        }
        if ($chunk->isFirst()) {
            say(['open' => true]);
        }
        if ($chunk instanceof ServerSentEvent) {
            say(['id' => $chunk->getId(), 'type' => $chunk->getType(), 'data' => $chunk->getData()]);
        }
    }
}
